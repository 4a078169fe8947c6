// What is known of a patch before it is looked at, added to a ranking (docs/method.md, 5).
#pragma once

#include <ATen/core/Tensor.h>

#include "core/names.h"
#include "core/run_context.h"
#include "core/weights/config.h"

namespace ltrp {

// kCentre: the nearer to the middle, the better, in shares of the picture's height and width. Of a square,
// this is the order of the selector `centre`.
enum class Prior { kNone, kCentre };
template <>
struct Names<Prior> {
  static constexpr Named<Prior> all[] = {{Prior::kNone, "none"}, {Prior::kCentre, "centre"}};
};

// logits [n, L] float32 on the CPU, L the grid's -> as many combined scores: a patch's rank by logit plus its
// rank by the prior. The lowest of an image has rank 0, equal ones share the mean of their ranks. Exact:
// multiples of 1/2 below 2 L. A patch whose logit is -infinity keeps it, and others are ranked as if it were
// not there. kNone: the logits themselves. Error(kCancelled).
at::Tensor with_prior(const at::Tensor& logits, Grid grid, Prior prior, const RunContext& context);

}  // namespace ltrp
