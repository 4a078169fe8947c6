#include "core/training/block_pass.h"

#include <algorithm>
#include <cstring>

namespace ltrp {

namespace {

// Enough rows that what a product reads of the weights does not count, few enough that a panel of them stays
// in the first-level cache when they are what the weights' gradients sum over.
constexpr int64_t kRows = 320;

int64_t in_panels(int64_t outputs) { return at::round_up(outputs, training_kernels().panel_outputs); }

// Pieces of a thread's scratch memory.
class Scratch {
 public:
  explicit Scratch(float* memory) : next_(memory) {}
  float* take(int64_t floats) {
    float* taken = next_;
    next_ += in_lines(floats);
    return taken;
  }

 private:
  float* next_;
};

// The products of a block, in the precision of its shape: operands are rounded here.
class Products {
 public:
  // Scratch: in floats.
  static int64_t rows_scratch(const BlockShape& s, int64_t rows) {
    if (s.operand == Operand::kFloat32) return 0;
    return in_lines((std::max(3 * s.dim, s.mlp_dim) + 1) * (rows + 1) / 2 + 1);
  }
  static int64_t panels_scratch(const BlockShape& s, int64_t rows) {
    if (s.operand == Operand::kFloat32) return 0;
    return in_lines(std::max(in_panels(s.dim), in_panels(s.mlp_dim)) * (rows + 1) / 2 + 1);
  }

  Products(const BlockShape& shape, int64_t rows, Scratch& scratch)
      : operand_(shape.operand),
        native_(shape.native),
        rounded_(reinterpret_cast<uint16_t*>(scratch.take(rows_scratch(shape, rows)))),
        rounded_panels_(reinterpret_cast<uint16_t*>(scratch.take(panels_scratch(shape, rows)))) {}

  // c = a panels (+ bias + residual)
  void multiply(int64_t rows, int64_t inputs, int64_t outputs, const float* a, const void* panels, float* c,
                const float* bias = nullptr, const float* residual = nullptr) const {
    PanelProduct product = of(rows, inputs, outputs);
    product.a = a;
    product.a_row = inputs;
    if (operand_ == Operand::kBfloat16) {
      training_kernels().round_rows(a, rows, inputs, rounded_);
      product.a = rounded_;
      product.a_row = inputs + inputs % 2;
    }
    product.b = panels;
    product.c = c;
    product.c_row = outputs;
    product.bias = bias;
    product.residual = residual;
    training_kernels().product(product);
  }

  // Of a product y = x W^T + bias with dy [rows, outputs] and x [rows, inputs] in panels.
  void add_gradients(int64_t rows, int64_t inputs, int64_t outputs, const float* dy, const float* panels,
                     float* dweight, float* dbias, bool fresh) const {
    PanelProduct product = of(outputs, rows, inputs);
    product.a = dy;
    product.a_row = outputs;
    product.transposed = true;
    product.b = panels;
    if (operand_ == Operand::kBfloat16) {
      training_kernels().round_columns(dy, rows, outputs, rounded_);
      training_kernels().round_panels(panels, rows, inputs, rounded_panels_);
      product.a = rounded_;
      product.a_row = rows + rows % 2;
      product.transposed = false;
      product.b = rounded_panels_;
    }
    product.c = dweight;
    product.c_row = inputs;
    product.accumulate = !fresh;
    training_kernels().product(product);
    training_kernels().add_column_sums(dy, rows, outputs, dbias);
  }

 private:
  PanelProduct of(int64_t rows, int64_t inputs, int64_t outputs) const {
    PanelProduct product;
    product.type = operand_;
    product.native = native_;
    product.rows = rows;
    product.inputs = inputs;
    product.outputs = outputs;
    return product;
  }

  Operand operand_;
  bool native_;
  uint16_t* rounded_;
  uint16_t* rounded_panels_;
};

}  // namespace

int64_t BlockPass::images_at_a_time(const BlockShape& shape) {
  return std::max<int64_t>(1, kRows / shape.tokens);
}

int64_t BlockPass::scratch_floats(const BlockShape& s, int64_t images) {
  const int64_t rows = images * s.tokens;
  const int64_t widest = std::max(in_panels(s.dim), in_panels(s.mlp_dim));
  // Backward: du, the panels, dn, dmiddle, d_o, a scaled gradient, dqkv, one head's q and dq.
  return in_lines(rows * s.mlp_dim) + in_lines(rows * widest) + 4 * in_lines(rows * s.dim) +
         in_lines(rows * 3 * s.dim) + in_lines(2 * s.tokens * s.dim) + Products::rows_scratch(s, rows) +
         Products::panels_scratch(s, rows) + training_kernels().head_workspace(s.tokens, s.dim / s.heads);
}

const float* BlockPass::query_rows(const float* x, int64_t begin, int64_t end, float* scratch) const {
  if (query_ids_ == nullptr) return x + begin * shape_.tokens * shape_.dim;
  float* to = scratch;
  for (int64_t image = begin; image < end; ++image) {
    for (int64_t i = 0; i < shape_.queries; ++i, to += shape_.dim) {
      const int64_t row = image * shape_.tokens + query_ids_[image * shape_.queries + i];
      std::memcpy(to, x + row * shape_.dim, static_cast<size_t>(shape_.dim) * sizeof(float));
    }
  }
  return scratch;
}

HeadForward BlockPass::head(int64_t image, int64_t head, float* workspace) const {
  const BlockShape& s = shape_;
  HeadForward args;
  args.queries = s.queries;
  args.keys = s.tokens;
  args.head_dim = s.dim / s.heads;
  args.q_row = args.kv_row = 3 * s.dim;
  args.q = kept_.qkv + image * s.tokens * 3 * s.dim + head * args.head_dim;
  args.k = args.q + s.dim;
  args.v = args.k + s.dim;
  args.o = kept_.o + image * s.queries * s.dim + head * args.head_dim;
  args.o_row = s.dim;
  args.most = kept_.most + (image * s.heads + head) * s.queries;
  args.share = kept_.share + (image * s.heads + head) * s.queries;
  args.workspace = workspace;
  return args;
}

void BlockPass::forward(int64_t begin, int64_t end, float* memory, float* y) const {
  const BlockShape& s = shape_;
  const TrainingKernels& kernels = training_kernels();
  const int64_t first = begin * s.tokens, rows = (end - begin) * s.tokens;
  const int64_t first_query = begin * s.queries, query_rows_count = (end - begin) * s.queries;
  const auto& w = weights_.values;
  Scratch scratch(memory);
  const Products products(s, rows, scratch);
  float* activated = scratch.take(query_rows_count * s.mlp_dim);
  float* normed = scratch.take(rows * s.dim);
  float* gathered = scratch.take(query_rows_count * s.dim);
  float* queries = scratch.take(s.queries * s.dim);
  float* workspace = scratch.take(0);

  LayerNormForward norm;
  norm.width = s.dim;
  norm.eps = s.eps;
  norm.y = normed;
  norm.rows = rows;
  norm.x = kept_.x + first * s.dim;
  norm.weight = w[kNorm1];
  norm.bias = w[kNorm1Bias];
  norm.mean = kept_.mean1 + first;
  norm.inverse = kept_.inverse1 + first;
  kernels.layer_norm_forward(norm);
  products.multiply(rows, s.dim, 3 * s.dim, normed, weights_.forward[kQkv], kept_.qkv + first * 3 * s.dim,
                    w[kQkvBias]);
  for (int64_t image = begin; image < end; ++image) {
    for (int64_t h = 0; h < s.heads; ++h) {
      HeadForward args = head(image, h, workspace);
      if (query_ids_ != nullptr) {
        gather_queries(image, h, queries);
        args.q = queries;
        args.q_row = args.head_dim;
      }
      kernels.head_forward(args);
    }
  }
  float* middle = kept_.middle + first_query * s.dim;
  const float* x = query_rows(kept_.x, begin, end, gathered);
  products.multiply(query_rows_count, s.dim, s.dim, kept_.o + first_query * s.dim, weights_.forward[kProj],
                    middle, w[kProjBias], scales_[0] == nullptr ? x : nullptr);
  add_residual(begin, end, scales_[0], x, middle);
  norm.rows = query_rows_count;
  norm.x = middle;
  norm.weight = w[kNorm2];
  norm.bias = w[kNorm2Bias];
  norm.mean = kept_.mean2 + first_query;
  norm.inverse = kept_.inverse2 + first_query;
  kernels.layer_norm_forward(norm);
  float* u = kept_.u + first_query * s.mlp_dim;
  products.multiply(query_rows_count, s.dim, s.mlp_dim, normed, weights_.forward[kFc1], u, w[kFc1Bias]);
  kernels.gelu_forward(u, activated, query_rows_count * s.mlp_dim);
  products.multiply(query_rows_count, s.mlp_dim, s.dim, activated, weights_.forward[kFc2],
                    y + first_query * s.dim, w[kFc2Bias], scales_[1] == nullptr ? middle : nullptr);
  add_residual(begin, end, scales_[1], middle, y + first_query * s.dim);
}

void BlockPass::add_residual(int64_t begin, int64_t end, const float* scales, const float* residual,
                             float* rows) const {
  if (scales == nullptr) return;
  const int64_t values = shape_.queries * shape_.dim;
  for (int64_t image = begin; image < end; ++image, residual += values, rows += values) {
    const float scale = scales[image];
    for (int64_t i = 0; i < values; ++i) rows[i] = residual[i] + scale * rows[i];
  }
}

const float* BlockPass::scaled(int64_t begin, int64_t end, const float* scales, const float* gradient,
                               float* scratch) const {
  if (scales == nullptr) return gradient;
  const int64_t values = shape_.queries * shape_.dim;
  float* to = scratch;
  for (int64_t image = begin; image < end; ++image, gradient += values, to += values) {
    for (int64_t i = 0; i < values; ++i) to[i] = scales[image] * gradient[i];
  }
  return scratch;
}

void BlockPass::gather_queries(int64_t image, int64_t head, float* to) const {
  const int64_t head_dim = shape_.dim / shape_.heads;
  const float* q = kept_.qkv + image * shape_.tokens * 3 * shape_.dim + head * head_dim;
  for (int64_t i = 0; i < shape_.queries; ++i, to += head_dim) {
    std::memcpy(to, q + query_ids_[image * shape_.queries + i] * 3 * shape_.dim,
                static_cast<size_t>(head_dim) * sizeof(float));
  }
}

void BlockPass::backward(int64_t begin, int64_t end, float* memory, const float* dy_all, float* dx_all,
                         const std::array<float*, kBlockTensors>& gradients, bool fresh) const {
  const BlockShape& s = shape_;
  const TrainingKernels& kernels = training_kernels();
  const int64_t first = begin * s.tokens, rows = (end - begin) * s.tokens;
  const int64_t first_query = begin * s.queries, queries = (end - begin) * s.queries;
  const auto& w = weights_.values;
  Scratch scratch(memory);
  const Products products(s, rows, scratch);
  float* du = scratch.take(queries * s.mlp_dim);
  float* panels = scratch.take(rows * std::max(in_panels(s.dim), in_panels(s.mlp_dim)));
  float* dn = scratch.take(rows * s.dim);
  float* dmiddle = scratch.take(rows * s.dim);
  float* d_o = scratch.take(queries * s.dim);
  float* spare = scratch.take(queries * s.dim);
  float* dqkv = scratch.take(rows * 3 * s.dim);
  float* dq = scratch.take(2 * s.queries * s.dim);  // and q, of one head
  float* workspace = scratch.take(0);
  if (fresh) {
    // Products overwrite.
    const auto zero = [&](size_t which, int64_t count) { std::fill_n(gradients[which], count, 0.0F); };
    for (const size_t which : {kProjBias, kFc2Bias, kNorm1, kNorm1Bias, kNorm2, kNorm2Bias})
      zero(which, s.dim);
    zero(kQkvBias, 3 * s.dim);
    zero(kFc1Bias, s.mlp_dim);
  }

  const float* dy = dy_all + first_query * s.dim;
  const float* dmlp = scaled(begin, end, scales_[1], dy, spare);
  products.multiply(queries, s.dim, s.mlp_dim, dmlp, weights_.backward[kFc2], du);
  GeluBackward gelu;
  gelu.rows = queries;
  gelu.width = s.mlp_dim;
  gelu.u = kept_.u + first_query * s.mlp_dim;
  gelu.dy = du;
  gelu.panels = panels;
  kernels.gelu_backward(gelu);
  products.add_gradients(queries, s.mlp_dim, s.dim, dmlp, panels, gradients[kFc2], gradients[kFc2Bias],
                         fresh);

  products.multiply(queries, s.mlp_dim, s.dim, du, weights_.backward[kFc1], dn);
  LayerNormPanels again;
  again.rows = queries;
  again.width = s.dim;
  again.x = kept_.middle + first_query * s.dim;
  again.mean = kept_.mean2 + first_query;
  again.inverse = kept_.inverse2 + first_query;
  again.weight = w[kNorm2];
  again.bias = w[kNorm2Bias];
  again.panels = panels;
  kernels.layer_norm_panels(again);
  products.add_gradients(queries, s.dim, s.mlp_dim, du, panels, gradients[kFc1], gradients[kFc1Bias], fresh);

  LayerNormBackward norm;
  norm.rows = queries;
  norm.width = s.dim;
  norm.x = again.x;
  norm.mean = again.mean;
  norm.inverse = again.inverse;
  norm.weight = w[kNorm2];
  norm.dy = dn;
  norm.dresidual = dy;
  norm.dx = dmiddle;
  norm.dweight = gradients[kNorm2];
  norm.dbias = gradients[kNorm2Bias];
  kernels.layer_norm_backward(norm);

  Panels pack;
  pack.inputs = queries;
  pack.outputs = s.dim;
  pack.b = kept_.o + first_query * s.dim;
  pack.b_row = s.dim;
  pack.panels = panels;
  kernels.pack(pack);
  const float* dattended = scaled(begin, end, scales_[0], dmiddle, spare);
  products.add_gradients(queries, s.dim, s.dim, dattended, panels, gradients[kProj], gradients[kProjBias],
                         fresh);
  products.multiply(queries, s.dim, s.dim, dattended, weights_.backward[kProj], d_o);

  attention_backward(begin, end, d_o, dqkv, dq, workspace);

  products.multiply(rows, 3 * s.dim, s.dim, dqkv, weights_.backward[kQkv], dn);
  again.rows = rows;
  again.x = kept_.x + first * s.dim;
  again.mean = kept_.mean1 + first;
  again.inverse = kept_.inverse1 + first;
  again.weight = w[kNorm1];
  again.bias = w[kNorm1Bias];
  kernels.layer_norm_panels(again);
  products.add_gradients(rows, s.dim, 3 * s.dim, dqkv, panels, gradients[kQkv], gradients[kQkvBias], fresh);

  norm.rows = rows;
  norm.x = again.x;
  norm.mean = again.mean;
  norm.inverse = again.inverse;
  norm.weight = w[kNorm1];
  norm.dresidual = query_ids_ != nullptr ? spread_queries(begin, end, dmiddle, panels) : dmiddle;
  norm.dx = dx_all + first * s.dim;
  norm.dweight = gradients[kNorm1];
  norm.dbias = gradients[kNorm1Bias];
  kernels.layer_norm_backward(norm);
}

void BlockPass::attention_backward(int64_t begin, int64_t end, const float* d_o, float* dqkv, float* dq,
                                   float* workspace) const {
  const BlockShape& s = shape_;
  const int64_t head_dim = s.dim / s.heads;
  // Tokens that are no queries have a gradient of q of zero.
  if (query_ids_ != nullptr) std::fill_n(dqkv, (end - begin) * s.tokens * 3 * s.dim, 0.0F);
  for (int64_t image = begin; image < end; ++image) {
    for (int64_t h = 0; h < s.heads; ++h) {
      HeadBackward args;
      args.forward = head(image, h, workspace);
      args.d_o = d_o + (image - begin) * s.queries * s.dim + h * head_dim;
      float* of_head = dqkv + (image - begin) * s.tokens * 3 * s.dim + h * head_dim;
      args.dq = of_head;
      args.dk = of_head + s.dim;
      args.dv = of_head + 2 * s.dim;
      if (query_ids_ == nullptr) {
        training_kernels().head_backward(args);
        continue;
      }
      float* q = dq + s.queries * head_dim;
      gather_queries(image, h, q);
      args.forward.q = q;
      args.forward.q_row = head_dim;
      args.dq = dq;
      training_kernels().head_backward(args);
      for (int64_t i = 0; i < s.queries; ++i) {
        float* to = of_head + query_ids_[image * s.queries + i] * 3 * s.dim;
        for (int64_t d = 0; d < head_dim; ++d) to[d] += dq[i * head_dim + d];
      }
    }
  }
}

const float* BlockPass::spread_queries(int64_t begin, int64_t end, const float* rows, float* scratch) const {
  const int64_t dim = shape_.dim;
  std::fill_n(scratch, (end - begin) * shape_.tokens * dim, 0.0F);
  for (int64_t image = begin; image < end; ++image) {
    for (int64_t i = 0; i < shape_.queries; ++i, rows += dim) {
      float* to = scratch + ((image - begin) * shape_.tokens + query_ids_[image * shape_.queries + i]) * dim;
      for (int64_t d = 0; d < dim; ++d) to[d] += rows[d];
    }
  }
  return scratch;
}

}  // namespace ltrp
