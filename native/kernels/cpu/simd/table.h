// The vector kernels of one instruction set as a table of plain functions.
#pragma once

#include "kernels/arguments.h"
#include "kernels/cpu/simd/panels.h"
#include "kernels/training.h"

namespace ltrp::simd {

using namespace args;

// Whether a kernel's result is still wanted: asked by those whose single tasks can take seconds, which then
// return early.
struct Stop {
  bool (*asked)(const void* of);
  const void* of;
  bool operator()() const { return asked(of); }
};

// left [rows, terms] times right [terms, columns]: kernels/chains.h.
struct ChainedProduct {
  int64_t terms = 0, columns = 0;
  const float* left = nullptr;
  const float* right = nullptr;
  float* y = nullptr;  // [rows, columns]
};

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
  void (*attention)(const Attention&, int64_t begin, int64_t end, float* workspace, const Stop& stop);
  // Tasks: image * heads + head.
  void (*removal_attention)(const RemovalAttention&, int64_t begin, int64_t end, float* workspace,
                            const Stop& stop);
  int64_t (*similarity_workspace)(const Similarity&);  // floats, 64-byte aligned
  // Variants.
  void (*similarity)(const Similarity&, int64_t begin, int64_t end, float* workspace, const Stop& stop);
  // Outputs in a panel of the level's products; no two levels have the same.
  int64_t panel_outputs;
  // Rows and panels.
  void (*product)(const MatrixProduct&, int64_t row_begin, int64_t row_end, int64_t panel_begin,
                  int64_t panel_end);
  void (*chained_product)(const ChainedProduct&, int64_t row_begin, int64_t row_end);
  const TrainingKernels* training;
};

}  // namespace ltrp::simd
