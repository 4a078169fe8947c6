// Maps whose patches share with their neighbours (docs/method.md, 6).
#pragma once

#include <ATen/core/Tensor.h>

#include "core/run_context.h"
#include "core/weights/config.h"

namespace ltrp {

// scores [n, L] float32, finite, L the grid's, on any device -> as many, in [0, 1]: ranks within the image,
// from 0 to 1 (equal scores share the mean of their ranks), averaged over the grid with the weights exp(-d^2
// / (2 sigma^2)), d the distance of two patches in patches. Patches beyond the border have no weight. Ranks
// instead of scores: a few large scores would outshine their whole neighbourhood. sigma 0: the scores
// themselves. Error(kCancelled).
at::Tensor smoothed_ranks(const at::Tensor& scores, Grid grid, double sigma, const RunContext& context);

}  // namespace ltrp
