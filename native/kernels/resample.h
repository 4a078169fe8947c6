// Cropping and resizing of byte pictures for training.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ltrp {

// Pixels of the source; 0 <= top, left; top + height and left + width within the picture.
struct CropBox {
  int64_t top = 0;
  int64_t left = 0;
  int64_t height = 0;
  int64_t width = 0;
};

// picture: RGB bytes, `picture_width` pixels a row. Writes out_height * out_width RGB bytes to `out`: the box
// resized with antialiased bicubic interpolation (a = -0.5, the filter of PIL), mirrored left to right if
// `flip`.
void crop_resize_bicubic(const uint8_t* picture, int64_t picture_height, int64_t picture_width,
                         const CropBox& box, int64_t out_height, int64_t out_width, bool flip, uint8_t* out);

}  // namespace ltrp
