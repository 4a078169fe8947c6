// The similarity kernel of one level; what it computes stands with its arguments in kernels/arguments.h.
#pragma once

#include "kernels/cpu/simd/table.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {

// Floats of workspace that the other needs, aligned to a vector.
int64_t similarity_workspace(const Similarity& args);
// Variants.
void similarity(const Similarity& args, int64_t begin, int64_t end, float* workspace, const Stop& stop);

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
