// The vector kernels of one instruction set as a table of plain functions. No tensors here: pointers and
// sizes, all arrays contiguous, float32 unless said otherwise.
#pragma once

#include <cstdint>

namespace ltrp::simd {

// A set of variants, one after another: row id = variant * rows_tokens + slot. Variant v differs from the
// anchor of image[v], whose token t is row image[v] * tokens + t of every anchor array. Slot s is token s or,
// with `queries` [images, rows_tokens], token queries[image[v] * rows_tokens + s].
struct Variants {
  int64_t variants = 0;
  int64_t tokens = 0;       // of the anchor
  int64_t rows_tokens = 0;  // tokens that have rows: `tokens` without queries
  const int32_t* image = nullptr;
  const int32_t* queries = nullptr;  // may be null
};

// Which rows of the set the packed rows are: packed row r has id ids[r], or first + r without ids.
struct PackedRows {
  const int32_t* ids = nullptr;
  int64_t first = 0;
};

// What the matrix products are given: packed row r as bfloat16 or, for int8, as bytes
// round(x / scale[r]) + 128 with scale[r] = max |x| / 127 (1 for a row of zeros); or float32 as it is. What
// the GELU yields is shifted by kGeluZero instead.
constexpr int kGeluZero = 32;
struct Rounded {
  uint16_t* bfloat16 = nullptr;  // exactly one of the three
  uint8_t* bytes = nullptr;
  float* float32 = nullptr;
  float* scale = nullptr;  // [rows] with bytes
};

// A matrix product's result: bfloat16 or float32, row r still to be multiplied by scale[r] where there are
// scales.
struct Product {
  const void* values = nullptr;
  bool float32 = false;
  const float* scale = nullptr;  // may be null
};

// d[id] += update[r] where there is an update, then LN(s + d) - LN(s) without cancellation, rounded.
struct LayerNormDifference {
  Variants set;
  int64_t width = 0;
  PackedRows rows;
  float* d = nullptr;                // [set rows, width]
  Product update;                    // values null: none
  const float* normed = nullptr;     // [anchor rows, width]: (s - mean) / deviation
  const float* deviation = nullptr;  // [anchor rows]: sqrt(variance + eps)
  const float* weight = nullptr;     // [width]
  Rounded out;
  float* squares = nullptr;  // [packed rows]: instead of `out`, the squared norms
};

// gelu(u + du) - gelu(u), rounded.
struct GeluDifference {
  Variants set;
  int64_t width = 0;
  PackedRows rows;
  Product du;                     // [packed rows, width]
  const float* u = nullptr;       // [anchor rows, width]
  const float* gelu_u = nullptr;  // [anchor rows, width]
  Rounded out;
};

// x[id], rounded.
struct RoundRows {
  int64_t width = 0;
  PackedRows rows;
  const float* x = nullptr;  // [set rows, width]
  Rounded out;
};

// x[id] += update[r].
struct AddRows {
  int64_t width = 0;
  PackedRows rows;
  Product update;
  float* x = nullptr;
};

// Sums of |x| or x^2 of a product's rows.
struct RowSums {
  int64_t width = 0;
  Product x;
  bool squared = false;
  double* sums = nullptr;  // [packed rows]
};

// Multi-head attention of variants: q, k and v are the anchor's plus a difference. Output: what the heads
// yield minus the anchor's, or as it is. The removed token is no key, and its own output is zero.
//
// q, k and v come by head, so that a head's operands are read in one go: [images or variants, heads, 3,
// tokens, head_dim]. With `bias` there is no anchor: q, k and v are the rows of a product [variants * tokens,
// 3 * heads * head_dim] plus that bias, read where the product left them.
struct Attention {
  Variants set;
  int64_t heads = 0;
  int64_t head_dim = 0;
  const float* qkv = nullptr;   // by image
  const float* bias = nullptr;  // [3 * heads * head_dim], instead of qkv
  const void* dqkv = nullptr;   // by variant, bfloat16 or float32; null: no difference
  bool dqkv_float32 = false;
  const float* dqkv_scale = nullptr;     // [variants, tokens]; null: ones
  const int32_t* removed = nullptr;      // [variants] token or -1; null: none
  const float* anchor_output = nullptr;  // [anchor rows, heads * head_dim]; null: not subtracted
  float* out = nullptr;                  // [set rows, heads * head_dim]
};

// x[r] += update[r] + update_bias where there is an update, then LN(x), rounded.
struct AddLayerNorm {
  int64_t width = 0;
  double eps = 0;
  float* x = nullptr;  // [rows, width]
  Product update;      // values null: none
  const float* update_bias = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;
  Rounded out;
};

// gelu(u + bias), rounded.
struct GeluRows {
  int64_t width = 0;
  Product u;  // [rows, width]
  const float* bias = nullptr;
  Rounded out;
};

// Patches of images [n, 3, height, width], values ordered (channel, row, column), rounded. Row r is patch
// ids[r], or r % L, of image r / per_image.
struct PatchRows {
  int64_t patch_size = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t per_image = 0;
  const int64_t* ids = nullptr;  // [n, per_image]; null: all L patches in order
  const float* images = nullptr;
  Rounded out;
};

// The same when all differences are zero and only the key is gone: o' - o = p (o - v) / (1 - p) with the
// anchor's probability p of the removed key.
struct RemovalAttention {
  Variants set;
  int64_t heads = 0;
  int64_t head_dim = 0;
  const float* qkv = nullptr;        // by image
  const int32_t* removed = nullptr;  // [variants], all >= 0
  const float* anchor_output = nullptr;
  float* out = nullptr;
};

// rows [rows, 3 * heads * head_dim] of a product, of whole variants of `tokens` rows each -> by head; the
// scale stays as it is.
struct SplitHeads {
  const int32_t* packed_row = nullptr;  // [variants * tokens] -> row, or -1 for zeros; null: all, in order
  int64_t tokens = 0;
  int64_t heads = 0;
  int64_t head_bytes = 0;  // head_dim values
  const char* rows = nullptr;
  char* out = nullptr;
};

// x [rows, width] -> (x - mean) / deviation, deviation [rows], and weight * that + bias.
struct LayerNormRows {
  int64_t width = 0;
  double eps = 0;
  const float* x = nullptr;
  const float* weight = nullptr;
  const float* bias = nullptr;
  float* out = nullptr;
  float* normed = nullptr;     // may be null
  float* deviation = nullptr;  // may be null
};

struct KernelTable {
  const char* name;
  void (*layer_norm_difference)(const LayerNormDifference&, int64_t begin, int64_t end);
  void (*gelu_difference)(const GeluDifference&, int64_t begin, int64_t end);
  void (*round_rows)(const RoundRows&, int64_t begin, int64_t end);
  void (*add_rows)(const AddRows&, int64_t begin, int64_t end);
  void (*row_sums)(const RowSums&, int64_t begin, int64_t end);
  // Variants.
  void (*split_heads)(const SplitHeads&, int64_t begin, int64_t end);
  void (*layer_norm)(const LayerNormRows&, int64_t begin, int64_t end);
  void (*add_layer_norm)(const AddLayerNorm&, int64_t begin, int64_t end);
  void (*gelu)(const GeluRows&, int64_t begin, int64_t end);
  void (*patches)(const PatchRows&, int64_t begin, int64_t end);
  int64_t (*attention_workspace)(const Variants&, int64_t head_dim);  // floats, 64-byte aligned
  // Tasks: variant * heads + head.
  void (*attention)(const Attention&, int64_t begin, int64_t end, float* workspace);
  // Tasks: image * heads + head.
  void (*removal_attention)(const RemovalAttention&, int64_t begin, int64_t end, float* workspace);
};

}  // namespace ltrp::simd
