// Matrix products of one level; what they compute stands in kernels/cpu/simd/panels.h.
#pragma once

#include "kernels/cpu/simd/table.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {

// Outputs in a panel; 16 registers hold two vectors' sums for six rows, 32 four vectors' for five.
constexpr int64_t kPanelOutputs = LTRP_SIMD_BYTES == 64 ? 64 : LTRP_SIMD_BYTES / 2;

// Rows and panels of the product.
void product(const MatrixProduct& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
             int64_t panel_end);

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
