// Arguments of the kernels that only CUDA has: on the CPU LibTorch's operators do the same.
// As in kernels/arguments.h: plain structs, contiguous arrays, float32 unless said otherwise.
#pragma once

#include <cstdint>

#include "kernels/arguments.h"

namespace ltrp::args {

// (byte / 255 - mean) / std of every channel: bytes [images, height, width, 3] -> [images, 3, height, width].
struct NormalizePixels {
  int64_t images = 0;
  int64_t height = 0;
  int64_t width = 0;
  const uint8_t* bytes = nullptr;
  float mean[3] = {};
  float std[3] = {};
  float* out = nullptr;
};

// How a patch's values follow one another: what a patch projection reads, what the decoder predicts.
enum class PatchOrder { kChannelRowColumn, kRowColumnChannel };

// Patches of images, one row each of 3 * patch_size^2 values, rounded. Row r is patch ids[r], or r % L, of
// image r / per_image. The images are normalised float32 [n, 3, height, width], or bytes
// [n, height, width, 3] that are normalised on the way as NormalizePixels does.
struct PixelPatches {
  int64_t patch_size = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t per_image = 0;
  const int64_t* ids = nullptr;  // [n, per_image]; null: all L patches in order
  const float* images = nullptr;
  const uint8_t* bytes = nullptr;  // instead of images
  float mean[3] = {};
  float std[3] = {};
  PatchOrder order = PatchOrder::kChannelRowColumn;
  Rounded out;
};

// The decoder's input for some variants of some images: CLS and the visible patches' embedded latents, mask
// tokens everywhere else, positions added. With `removed` a variant lacks the visible patch of that slot:
// its row is deleted, so that T = L of the L + 1 tokens remain; or it is kept, filled with the mask token.
struct DecoderInput {
  int64_t patches = 0;            // L
  int64_t visible_per_image = 0;  // V
  int64_t width = 0;
  const int32_t* image = nullptr;    // [variants]; null: variant v is image v
  const int32_t* removed = nullptr;  // [variants] slot among the visible patches; null: none
  bool keep_place = false;           // of the removed: T = L + 1 in any case
  // Whether `embedded` is by variant and was encoded without the removed patch: [variants, V, width].
  // Otherwise it is by image: [images, V + 1, width].
  bool encoded_without = false;
  const int64_t* visible = nullptr;  // [images, V] ascending patch ids
  Product embedded;
  const float* bias = nullptr;        // [width], added to `embedded`; may be null
  const float* mask_token = nullptr;  // [width]
  const float* positions = nullptr;   // [L + 1, width]
  float* out = nullptr;               // [variants, T, width]; T = L + 1 without `removed`
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
  Product difference;                 // [variants, V + 1, width]
  const float* mask_token = nullptr;  // [width]; may be null
  Product embedded;                   // [images, V + 1, width], with mask_token: the anchor's
  const float* bias = nullptr;        // [width], added to `embedded`; may be null
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

// A loss of method section 4 over lists of `items`, and its gradient in the predictions.
struct ListwiseLoss {
  ListLoss loss = ListLoss::kListMle;
  int64_t items = 0;
  int64_t k = 0;  // kListMle: items drawn by `noise`, 0 or more than there are: all; kFocusedRank: the focus
  const float* predicted = nullptr;  // [lists, items]
  const float* target = nullptr;     // [lists, items]
  const float* noise = nullptr;      // [lists, items]: the k smallest are drawn; null: all items in order
  const float* upstream = nullptr;   // [1] gradient of what follows in the loss; null: 1
  double* list_loss = nullptr;       // [lists]: what each adds to the loss
  float* value = nullptr;            // [1]
  float* gradient = nullptr;         // [lists, items]; null: not wanted
};

// DPC-KNN clusters of each image's patches (method section 5).
struct DensityPeaks {
  int64_t patches = 0;            // L
  int64_t values = 0;             // of a patch
  int64_t clusters = 0;           // in [1, L]
  const float* x = nullptr;       // [images, L, values], finite
  const float* noise = nullptr;   // [images, L] in [0, 1)
  float* distance = nullptr;      // [images, L, L]: Euclidean / sqrt(values)
  float* density = nullptr;       // [images, L]
  float* farthest = nullptr;      // [images, L]: largest distance of each patch
  float* score = nullptr;         // [images, L]: density * distance to the nearest denser patch
  int32_t* centres = nullptr;     // [images, clusters] by falling score, the lower id first among equals
  int32_t* assignment = nullptr;  // [images, L] index into centres; the lowest among equally near ones
};

// The rows of each variant, in order, without the smallest ones whose squared norms sum up to at most
// `tolerance` of the variant's; the lower slot is the smaller among equals. At least one row is kept, all
// where the sum is not finite, and as many more as make their number a multiple of `together`, if there are
// so many.
struct LargeRows {
  int64_t slots = 0;
  double tolerance = 0;
  int64_t together = 1;
  const float* squares = nullptr;   // [variants, slots], not negative
  const int32_t* unread = nullptr;  // [variants]: a slot whose square counts as zero, or -1; null: none
  uint64_t* threshold = nullptr;    // [variants]: the smallest (square, slot) that is kept
  int32_t* count = nullptr;         // [variants]: rows kept
  int32_t* ids = nullptr;           // variant * slots + slot; room for all rows, `total` are written
  int32_t* packed_row = nullptr;    // [variants * slots]: place among the ids, or -1; null: not wanted
  int32_t* total = nullptr;         // [1]
};

}  // namespace ltrp::args
