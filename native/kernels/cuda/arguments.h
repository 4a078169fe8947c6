// Arguments of the kernels that only the CUDA backend calls.
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

// Patches of bytes [n, height, width, 3], normalised as NormalizePixels does, one row each of
// 3 * patch_size^2 values in the order (channel, row, column), rounded. Row r is patch ids[r], or r % L, of
// image r / per_image.
struct PixelPatches {
  int64_t patch_size = 0;
  int64_t height = 0;
  int64_t width = 0;
  int64_t per_image = 0;
  const int64_t* ids = nullptr;  // [n, per_image]; null: all L patches in order
  const uint8_t* bytes = nullptr;
  float mean[3] = {};
  float std[3] = {};
  Rounded out;
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
