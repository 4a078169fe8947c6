// Position tables of the transformers: the fixed 2-D sin-cos table and its interpolation to other grids
// (docs/method.md, 7).
#pragma once

#include <ATen/core/Tensor.h>

#include "core/weights/config.h"

namespace ltrp {

// Fixed table [1, 1 + grid.patches(), dim] float32 on the CPU, computed in float64. Row 0 (CLS) is zero; then
// one row per patch in raster order, laid out [sin(w) | cos(w) | sin(h) | cos(h)] with omega_k = 1 / 10000^(k
// / (dim / 4)). Error(kInvalidArgument) when dim is not a positive multiple of 4 or the grid is empty.
at::Tensor sincos_positions(Grid grid, int64_t dim);

// table [1, 1 + from.patches(), D] floating -> [1, 1 + to.patches(), D] of the same dtype, by 2-D bicubic
// interpolation (pixel centres aligned, no antialiasing); the CLS row is copied. Returns `table` itself when
// the grids are equal. Error(kInvalidArgument) when the table does not have the rows of `from` or a grid is
// empty.
at::Tensor resize_positions(const at::Tensor& table, Grid from, Grid to);

}  // namespace ltrp
