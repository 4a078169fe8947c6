// Which K patches to keep: the top by score, the rest for diversity from DPC-KNN clusters (method section 5).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "core/model/transformer.h"
#include "core/run_context.h"

namespace ltrp {

struct SelectionOptions {
  int64_t keep = 0;
  int64_t patch_size = 16;
  double score_share = 0.7;  // int(keep * share) go to the highest logits
  uint64_t seed = 0;
  bool compat = false;  // the authors' way: random member, rising scores, then cluster order
  std::optional<at::Tensor> density_noise;  // [n, L] float32 in [0, 1); drawn from seed when absent
  std::optional<at::Tensor> member_noise;   // [n, L]; compat only
  at::Device device = at::kCPU;             // where clusters are found
};

// images [n, 3, H, W] normalised, logits [n, L] -> ids [n, keep] int64. Default mode: the clusters' centres
// represent them, raster order. Error(kInvalidArgument) for wrong sizes, NaN logits or pixels, keep outside
// [1, L].
at::Tensor select_patches(const at::Tensor& images, const at::Tensor& logits, const SelectionOptions& options,
                          const RunContext& context);

}  // namespace ltrp
