// Matrix products of one level; what they compute stands in kernels/cpu/simd/panels.h.
#pragma once

#include "kernels/cpu/simd/table.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {

// Rows and panels of the product, on levels with 512-bit vectors only. bfloat16 needs AVX512_BF16 and kUint8
// needs AVX512_VNNI.
void product(const MatrixProduct& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
             int64_t panel_end);

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
