// What the kernels of every device are given: one plain struct for each, pointers and sizes. No tensors here;
// all arrays are contiguous, float32 unless said otherwise.
#pragma once

#include <cstdint>

namespace ltrp::args {

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

// How values are stored. kUint8: bytes round(x / scale[r]) + 128 with scale[r] = max |x| / 127 (1 for a row
// of zeros), shifted by kGeluZero instead where a GELU yields them; kInt8: the same without a shift.
enum class Encoding { kFloat32, kBfloat16, kFloat16, kFloat8, kUint8, kInt8, kInt32 };
constexpr int kGeluZero = 32;

// Where rows for a matrix product go. kBfloat16 and kFloat32: as they are. kUint8 and kInt8: as said above.
// kFloat16: x / scale[r] with a power of two that puts max |x| into [1, 2); kFloat8 (e4m3): x / scale[r] with
// scale[r] = max |x| / 448 (1 for a row of zeros).
struct Rounded {
  Encoding encoding = Encoding::kFloat32;
  void* values = nullptr;
  float* scale = nullptr;  // [rows], where the encoding has one
};

// A matrix product's result: kFloat32, kBfloat16 or kInt32; value (r, c) is still to be multiplied by
// scale[r] and column_scale[c] where there are such.
struct Product {
  const void* values = nullptr;
  Encoding encoding = Encoding::kBfloat16;
  const float* scale = nullptr;         // [rows]; may be null
  const float* column_scale = nullptr;  // [width]; may be null
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
  const float* qkv = nullptr;            // by image
  const float* bias = nullptr;           // [3 * heads * head_dim], instead of qkv
  Product dqkv;                          // by variant, a scale for each token; values null: no difference
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

// The losses of method section 4 over lists of scores.
enum class ListLoss { kPointWise, kListNet, kListMle, kRankNet, kFocusedRank };

}  // namespace ltrp::args
