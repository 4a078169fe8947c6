// Products with a fixed order of sums (kernels/chains.h).
#pragma once

#include "kernels/cpu/simd/table.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {

// Rows of the left factor.
void chained_product(const ChainedProduct& args, int64_t begin, int64_t end);

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
