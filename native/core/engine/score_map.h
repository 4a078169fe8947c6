// The teacher's opinion of every patch: scores averaged over many random masks.
#pragma once

#include "core/engine/leave_one_out.h"

namespace ltrp {

struct ScoreMapOptions {
  LeaveOneOutOptions scores;
  double mask_ratio = 0.9;
  int64_t rounds = 4;  // every patch is visible at least this often
  uint64_t seed = 0;
  int64_t first_image = 0;  // number of the first image, which masks depend on
  // Multiplies each mean by the mean of edge_surprise() over the masks that hid the patch.
  // Error(kInvalidArgument) where a patch is hidden by none: in one round of one mask.
  bool surprise = false;
};

struct ScoreMap {
  at::Tensor mean;            // [n, rows, columns]
  at::Tensor standard_error;  // [n, rows, columns]; of the mean over the masks in which the patch was
                              // visible, NaN for one; the surprise counts as exact
};

// Each round splits a random permutation of the patches into ceil(L / V) masks, so every patch is visible at
// least once a round; the last mask is filled up with other patches of that permutation. Image i's masks
// depend on (seed, first_image + i) only. Progress counts variants.
ScoreMap score_map(const Teacher& teacher, const at::Tensor& images, const ScoreMapOptions& options,
                   const RunContext& context);

}  // namespace ltrp
