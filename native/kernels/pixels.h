// Bytes to network input and back to patches. Shapes: n images, L = rows * columns patches in raster order.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <cstdint>

#include "kernels/linear.h"

namespace ltrp {

// bytes [n, H, W, 3] uint8 -> [n, 3, H, W] float32: (x / 255 - mean) / std, mean and std of three values
// each.
at::Tensor normalize_pixels(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std);

// patch_rows() of kernels/forward.h for normalised bytes, without an image in memory where the device can.
RoundedRows byte_patch_rows(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std,
                            int64_t patch_size, const at::Tensor& ids, Precision precision);

// images [n, 3, H, W] -> [n, L, 3 * p * p], values ordered (channel, row, column): what a patch projection
// reads.
at::Tensor patchify_channels_first(const at::Tensor& images, int64_t patch_size);

// images [n, 3, H, W] -> [n, L, p * p * 3], values ordered (row, column, channel): what the decoder predicts.
at::Tensor patchify_channels_last(const at::Tensor& images, int64_t patch_size);

// patches [n, L, p * p * 3], values ordered (row, column, channel) -> [n, 3, rows * p, columns * p].
at::Tensor unpatchify_channels_last(const at::Tensor& patches, int64_t rows, int64_t columns,
                                    int64_t patch_size);

}  // namespace ltrp
