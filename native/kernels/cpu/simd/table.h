// The vector kernels of one instruction set as a table of plain functions.
#pragma once

#include "kernels/arguments.h"
#include "kernels/cpu/simd/panels.h"

namespace ltrp::simd {

using namespace args;

struct KernelTable {
  const char* name;
  void (*layer_norm_difference)(const LayerNormDifference&, int64_t begin, int64_t end);
  void (*gelu_difference)(const GeluDifference&, int64_t begin, int64_t end);
  void (*round_rows)(const RoundRows&, int64_t begin, int64_t end);
  void (*add_rows)(const AddRows&, int64_t begin, int64_t end);
  void (*row_sums)(const RowSums&, int64_t begin, int64_t end);
  // Variants.
  void (*split_heads)(const SplitHeads&, int64_t begin, int64_t end);
  void (*layer_norm)(const LayerNormRows&, int64_t begin, int64_t end);
  void (*add_layer_norm)(const AddLayerNorm&, int64_t begin, int64_t end);
  void (*gelu)(const GeluRows&, int64_t begin, int64_t end);
  void (*patches)(const PatchRows&, int64_t begin, int64_t end);
  int64_t (*attention_workspace)(const Variants&, int64_t head_dim);  // floats, 64-byte aligned
  // Tasks: variant * heads + head.
  void (*attention)(const Attention&, int64_t begin, int64_t end, float* workspace);
  // Tasks: image * heads + head.
  void (*removal_attention)(const RemovalAttention&, int64_t begin, int64_t end, float* workspace);
  // Rows and panels; null where the level has none.
  void (*product)(const MatrixProduct&, int64_t row_begin, int64_t row_end, int64_t panel_begin,
                  int64_t panel_end);
};

}  // namespace ltrp::simd
