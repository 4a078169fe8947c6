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

// The structural similarity of variants' images and their anchors' (kernels/difference.h). Patches are in
// raster order, their values ordered (row, column, channel). Images are at least 11 pixels high and wide.
struct Similarity {
  int64_t rows = 0;  // of the grid of patches
  int64_t columns = 0;
  int64_t patch_size = 0;
  const int32_t* image = nullptr;  // [variants]: whose anchor
  const float* anchor = nullptr;   // [images, rows * columns, 3 * patch_size^2]
  int64_t tokens = 0;              // rows of a variant in `changed`, of which the last rows * columns count
  Product changed;                 // [variants * tokens, 3 * patch_size^2]
  bool difference = false;         // `changed` is to be added to the anchor
  double* out = nullptr;           // [variants]
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

// ---- Kernels that not every device has: LibTorch's operators do the same, see SpecialKernels in backend.h
// ----

// Rows that a kernel sorts in shared memory: patches of an image, items of a list, slots of a variant.
constexpr int64_t kMostSorted = 4096;
// Variants or images that one call may take where they are a dimension of a grid.
constexpr int64_t kMostOfGrid = 65535;

// The decoder's input for some variants of some images: CLS and the visible patches' embedded latents, mask
// tokens everywhere else, positions added. With `removed` a variant was encoded without the visible patch of
// that slot and lacks its row, so that T = L of the L + 1 tokens remain.
struct DecoderInput {
  int64_t patches = 0;            // L
  int64_t visible_per_image = 0;  // V
  int64_t width = 0;
  const int32_t* image = nullptr;     // [variants], with `removed`; null: variant v is image v
  const int32_t* removed = nullptr;   // [variants] slot among the visible patches; null: none
  const int64_t* visible = nullptr;   // [images, V] ascending patch ids
  const float* embedded = nullptr;    // [images, V + 1, width]; with `removed` [variants, V, width]
  const float* mask_token = nullptr;  // [width]
  const float* positions = nullptr;   // [L + 1, width]
  float* out = nullptr;               // [variants, T, width]
};

// What a variant's decoder input starts with as its difference from the anchor's, where the encoder differs
// too: that of its embedded latents in the rows of CLS and the visible patches, zeros elsewhere. The row of
// the `removed` patch: zeros, or with `mask_token` what changes when the mask token takes its place.
struct StartingDifference {
  int64_t patches = 0;            // L
  int64_t visible_per_image = 0;  // V
  int64_t width = 0;
  const int32_t* image = nullptr;     // [variants]
  const int32_t* removed = nullptr;   // [variants] slot among the visible patches; null: none
  const int64_t* visible = nullptr;   // [images, V] ascending patch ids
  const float* difference = nullptr;  // [variants, V + 1, width]
  const float* mask_token = nullptr;  // [width]; may be null
  const float* embedded = nullptr;    // [images, V + 1, width], with mask_token: the anchor's
  float* out = nullptr;               // [variants, L + 1, width]
};

// Copies of their images' rows without one: [images, tokens, row_bytes] -> [variants, tokens - 1, row_bytes].
struct DeleteRow {
  int64_t tokens = 0;
  int64_t row_bytes = 0;
  const int32_t* image = nullptr;    // [variants]
  const int32_t* removed = nullptr;  // [variants] token, in [0, tokens)
  const char* rows = nullptr;
  char* out = nullptr;
};

// Token ids (patch + 1) of the patches that are not visible, ascending: [images, L - V]. With `removed`, by
// variant: [variants, L - V], the ids behind the removed token one lower, as DeleteRow leaves them.
struct MaskedTokens {
  int64_t patches = 0;
  int64_t visible_per_image = 0;
  const int64_t* visible = nullptr;  // [images, V] ascending patch ids
  const int32_t* image = nullptr;    // [variants]; null: variant v is image v
  const int32_t* removed = nullptr;  // [variants] token; null: none
  int32_t* out = nullptr;
};

// The losses of docs/method.md, 4, over lists of scores.
enum class ListLoss { kPointWise, kListNet, kListMle, kRankNet, kFocusedRank };

// A loss over lists of `items`, and its gradient in the predictions.
struct ListwiseLoss {
  ListLoss loss = ListLoss::kListMle;
  int64_t items = 0;
  int64_t k = 0;  // kListMle: items drawn by `noise`, 0 or more than there are: all; kFocusedRank: the focus
  const float* predicted = nullptr;  // [lists, items]
  const float* target = nullptr;     // [lists, items]
  const float* noise = nullptr;      // [lists, items]: the k smallest are drawn; null: all items in order
  double* list_loss = nullptr;       // [lists]: what each adds to the loss
  float* value = nullptr;            // [1]
  float* gradient = nullptr;         // [lists, items]; null: not wanted
};

// DPC-KNN clusters of each image's patches (docs/method.md, 5).
struct DensityPeaks {
  int64_t patches = 0;   // L
  int64_t values = 0;    // of a patch
  int64_t clusters = 0;  // in [1, L]
  // Of equally dense patches the one with the larger noise, else the lower id, counts as the denser one.
  bool ties_by_noise = false;
  const float* x = nullptr;       // [images, L, values], finite
  const float* noise = nullptr;   // [images, L] in [0, 1)
  float* distance = nullptr;      // [images, L, L]: Euclidean / sqrt(values)
  float* density = nullptr;       // [images, L]
  float* farthest = nullptr;      // [images, L]: largest distance of each patch
  float* score = nullptr;         // [images, L]: density * distance to the nearest denser patch
  int32_t* centres = nullptr;     // [images, clusters] by falling score, the lower id first among equals
  int32_t* assignment = nullptr;  // [images, L] index into centres; the lowest among equally near ones
};

}  // namespace ltrp::args
