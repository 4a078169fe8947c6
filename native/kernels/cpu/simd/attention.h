// The attention kernels of one level; what they compute stands with their arguments in kernels/arguments.h.
#pragma once

#include "kernels/cpu/simd/table.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {

// Floats of workspace that the other two need, aligned to a vector.
int64_t attention_workspace(const Variants& set, int64_t head_dim);
void attention(const Attention& args, int64_t begin, int64_t end, float* workspace, const Stop& stop);
void removal_attention(const RemovalAttention& args, int64_t begin, int64_t end, float* workspace,
                       const Stop& stop);

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
