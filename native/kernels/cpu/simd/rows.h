// The row kernels of one level; what they compute stands with their arguments in kernels/arguments.h.
#pragma once

#include "kernels/cpu/simd/table.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {

void layer_norm_difference(const LayerNormDifference& args, int64_t begin, int64_t end);
void gelu_difference(const GeluDifference& args, int64_t begin, int64_t end);
void round_rows(const RoundRows& args, int64_t begin, int64_t end);
void add_rows(const AddRows& args, int64_t begin, int64_t end);
void row_sums(const RowSums& args, int64_t begin, int64_t end);
void split_heads(const SplitHeads& args, int64_t begin, int64_t end);
void layer_norm(const LayerNormRows& args, int64_t begin, int64_t end);
void add_layer_norm(const AddLayerNorm& args, int64_t begin, int64_t end);
void gelu_rows(const GeluRows& args, int64_t begin, int64_t end);
void patch_rows(const PatchRows& args, int64_t begin, int64_t end);

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
