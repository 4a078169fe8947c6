// Which K patches to keep: the top by score, the rest for diversity from DPC-KNN clusters (docs/method.md,
// 5).
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <optional>

#include "core/engine/prior.h"
#include "core/model/transformer.h"
#include "core/names.h"
#include "core/run_context.h"

namespace ltrp {

enum class SelectionMode { kDefault, kCompat };
template <>
struct Names<SelectionMode> {
  static constexpr Named<SelectionMode> all[] = {{SelectionMode::kDefault, "default"},
                                                 {SelectionMode::kCompat, "compat"}};
};

// Of the paper (section 3.3). Without compat the default is 1: on photographs no other share keeps more of
// the objects (docs/method.md, 5).
constexpr double kCompatScoreShare = 0.7;

struct SelectionOptions {
  int64_t keep = 0;
  int64_t patch_size = 16;
  double score_share = 1;  // int(keep * share) go to the highest logits
  uint64_t seed = 0;
  int64_t first_image = 0;     // number of the first image, which noise depends on
  Prior prior = Prior::kNone;  // combined with the logits before anything is chosen by them
  bool compat = false;         // the authors' way: random member, rising scores, then cluster order
  std::optional<at::Tensor> density_noise;  // [n, L] float32 in [0, 1); drawn from seed when absent
  std::optional<at::Tensor> member_noise;   // [n, L]; compat only
  at::Device device = at::kCPU;             // where clusters are found
  // Of bytes, which are normalised with these first.
  std::array<double, 3> mean{0.485, 0.456, 0.406};
  std::array<double, 3> std{0.229, 0.224, 0.225};
};

// For images of so many patches. Error(kInvalidArgument).
void validate(const SelectionOptions& options, int64_t patches);

// images [n, 3, H, W] normalised (or bytes [n, H, W, 3]), logits [n, L] -> ids [n, keep] int64. Default mode:
// the clusters' centres represent them, raster order. A patch whose logit is -infinity is never chosen: the
// image is as if it had no such patches. Pixels must be finite, logits neither NaN nor +infinity (as in all
// of the core, whoever takes them from a user checks that). Error(kInvalidArgument) for wrong sizes and for
// keep outside [1, patches that may be chosen].
//
// Memory beside the arguments: for each image that is worked on (one a thread) a copy of its pixels and what
// density_peaks() takes. A device that work is queued on takes all images together.
at::Tensor select_patches(const at::Tensor& images, const at::Tensor& logits, const SelectionOptions& options,
                          const RunContext& context);

}  // namespace ltrp
