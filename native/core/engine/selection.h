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
// represent them, raster order. A patch whose logit is -infinity is never chosen: the image is as if it had
// no such patches. Pixels must be finite, logits neither NaN nor +infinity (as in all of the core, whoever
// takes them from a user checks that). Error(kInvalidArgument) for wrong sizes and for keep outside [1,
// patches that may be chosen].
//
// Memory beside the arguments: a copy of the pixels, and for each image that is worked on (one a thread) what
// density_peaks() takes.
at::Tensor select_patches(const at::Tensor& images, const at::Tensor& logits, const SelectionOptions& options,
                          const RunContext& context);

}  // namespace ltrp
