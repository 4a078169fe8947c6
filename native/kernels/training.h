// What a transformer block is trained with on a CPU: products with panels, norms, GELU and attention, forward
// and backward, as functions on plain pointers. Each does its work on the thread that calls it, allocates
// nothing, and yields the same bits for a row whatever rows are beside it; who calls shares the work out.
#pragma once

#include <cstdint>

namespace ltrp {

// Values of a product's operands; sums are always float32.
enum class Operand { kFloat32, kBfloat16 };

// c[r, n] = sum over k of a[r, k] b[k, n] + bias[n] + residual[r, n].
struct PanelProduct {
  Operand type = Operand::kFloat32;
  int64_t rows = 0;
  int64_t inputs = 0;   // K
  int64_t outputs = 0;  // N
  // a[r * a_row + k], or `transposed` a[k * a_row + r], kFloat32 only. kBfloat16: an odd number of inputs is
  // made even by a zero.
  const void* a = nullptr;
  int64_t a_row = 0;
  bool transposed = false;
  const void* b = nullptr;  // panels, see Panels
  float* c = nullptr;       // c[r * c_row + n]
  int64_t c_row = 0;
  bool accumulate = false;          // adds to c instead
  const float* bias = nullptr;      // may be null
  const float* residual = nullptr;  // as c; may be null
  // kBfloat16: whether the processor multiplies so by one instruction; several do the same.
  bool native = false;
};

// The right-hand side of a product, b [inputs, outputs], in its layout: panels of panel_outputs() columns, of
// each all inputs, one after another; the last one filled up with zeros. kBfloat16 has two inputs that follow
// each other side by side: round_panels().
struct Panels {
  int64_t inputs = 0;
  int64_t outputs = 0;
  const float* b = nullptr;  // b[k * b_row + n], or `transposed` b[n * b_row + k]
  int64_t b_row = 0;
  bool transposed = false;
  float* panels = nullptr;  // 64-byte aligned
};

// y = weight (x - mean) inverse + bias with inverse = 1 / sqrt(variance + eps).
struct LayerNormForward {
  int64_t rows = 0;
  int64_t width = 0;
  double eps = 0;
  const float* x = nullptr;  // [rows, width]
  const float* weight = nullptr;
  const float* bias = nullptr;
  float* y = nullptr;        // [rows, width]
  float* mean = nullptr;     // [rows]
  float* inverse = nullptr;  // [rows]
};

// From the gradient dy of y: dx = dresidual + that of x. Adds to the gradients of weight and bias.
struct LayerNormBackward {
  int64_t rows = 0;
  int64_t width = 0;
  const float* x = nullptr;
  const float* mean = nullptr;
  const float* inverse = nullptr;
  const float* weight = nullptr;
  const float* dy = nullptr;         // [rows, width]
  const float* dresidual = nullptr;  // [rows, width]; may be dx
  float* dx = nullptr;               // [rows, width]
  float* dweight = nullptr;          // [width]
  float* dbias = nullptr;            // [width]
};

// y once more, in panels of a product's right-hand side [rows, width].
struct LayerNormPanels {
  int64_t rows = 0;
  int64_t width = 0;
  const float* x = nullptr;
  const float* mean = nullptr;
  const float* inverse = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float* panels = nullptr;
};

// dy becomes dy gelu'(u); gelu(u) goes into panels of a product's right-hand side [rows, width].
struct GeluBackward {
  int64_t rows = 0;
  int64_t width = 0;
  const float* u = nullptr;  // [rows, width]
  float* dy = nullptr;       // [rows, width]
  float* panels = nullptr;
};

// Attention of one head of one image: o = softmax(q k^T / sqrt(head_dim)) v.
struct HeadForward {
  int64_t queries = 0;
  int64_t keys = 0;
  int64_t head_dim = 0;
  const float* q = nullptr;  // q[query * q_row + i]
  const float* k = nullptr;  // k[key * kv_row + i]
  const float* v = nullptr;
  int64_t q_row = 0;
  int64_t kv_row = 0;
  float* o = nullptr;  // o[query * o_row + i]
  int64_t o_row = 0;
  float* most = nullptr;       // [queries]: the largest logit, unscaled
  float* share = nullptr;      // [queries]: 1 / sum over keys of exp((logit - most) / sqrt(head_dim))
  float* workspace = nullptr;  // head_workspace() floats, 64-byte aligned
};

// From the gradient d_o of o those of q, k and v, which have their strides.
struct HeadBackward {
  HeadForward forward;         // as the forward pass had it; o is not read
  const float* d_o = nullptr;  // d_o[query * o_row + i]
  float* dq = nullptr;
  float* dk = nullptr;
  float* dv = nullptr;
};

// Of the level in use (kernels/simd.h).
struct TrainingKernels {
  int64_t panel_outputs;
  void (*product)(const PanelProduct&);
  void (*pack)(const Panels&);
  // Float32 panels of b [inputs, outputs] to bfloat16, x [rows, width] to bfloat16 [rows, width made even],
  // and x [rows, width] to its transpose [width, rows made even].
  void (*round_panels)(const float* panels, int64_t inputs, int64_t outputs, uint16_t* rounded);
  void (*round_rows)(const float* x, int64_t rows, int64_t width, uint16_t* rounded);
  void (*round_columns)(const float* x, int64_t rows, int64_t width, uint16_t* rounded);
  void (*layer_norm_forward)(const LayerNormForward&);
  void (*layer_norm_backward)(const LayerNormBackward&);
  void (*layer_norm_panels)(const LayerNormPanels&);
  void (*gelu_forward)(const float* u, float* y, int64_t count);  // y = gelu(u)
  void (*gelu_backward)(const GeluBackward&);
  void (*add_column_sums)(const float* x, int64_t rows, int64_t width, float* sums);
  int64_t (*head_workspace)(int64_t keys, int64_t head_dim);
  void (*head_forward)(const HeadForward&);
  void (*head_backward)(const HeadBackward&);
};

const TrainingKernels& training_kernels();

}  // namespace ltrp
