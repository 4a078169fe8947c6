#include "core/engine/average_precision.h"

#include <ATen/ATen.h>

#include <limits>
#include <vector>

#include "core/engine/ordering.h"

namespace ltrp {

namespace {

// One class of one draw: images in the order of falling scores.
double of_class(const std::vector<int64_t>& order, const double* scores, const double* targets,
                const int32_t* times, const RunContext& context) {
  double found = 0, seen = 0, sum = 0, fresh = 0;
  for (size_t rank = 0; rank < order.size(); ++rank) {
    if (rank % kItemsBetweenChecks == 0) context.check();
    const int64_t image = order[rank];
    fresh += targets[image] * times[image];
    seen += times[image];
    const bool threshold = rank + 1 == order.size() || scores[order[rank + 1]] != scores[image];
    if (!threshold || fresh == 0) continue;
    found += fresh;
    sum += fresh * found / seen;
    fresh = 0;
  }
  return found > 0 ? sum / found : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

at::Tensor average_precision_of_draws(const at::Tensor& scores, const at::Tensor& targets,
                                      const at::Tensor& times, const RunContext& context) {
  TORCH_CHECK(scores.sizes() == targets.sizes(), "scores and targets differ in shape");
  TORCH_CHECK(times.dim() == 2 && times.size(1) == scores.size(0) && times.scalar_type() == at::kInt,
              "times must be int32 [draws, images]");
  // By class, so that a class is one run of memory.
  const at::Tensor s = scores.t().to(at::kDouble).contiguous(), y = targets.t().to(at::kDouble).contiguous();
  const at::Tensor counts = times.contiguous();
  const int64_t classes = s.size(0), images = s.size(1), draws = counts.size(0);
  at::Tensor result = at::empty({draws, classes}, at::kDouble);
  for (int64_t c = 0; c < classes; ++c) {
    const double* values = s.const_data_ptr<double>() + c * images;
    const std::vector<int64_t> order = sorted_indices(
        images, [&](int64_t i, int64_t j) { return values[i] > values[j]; }, context);
    for (int64_t draw = 0; draw < draws; ++draw) {
      result.mutable_data_ptr<double>()[draw * classes + c] =
          of_class(order, values, y.const_data_ptr<double>() + c * images,
                   counts.const_data_ptr<int32_t>() + draw * images, context);
    }
    context.progress(c + 1, classes);
  }
  return result;
}

at::Tensor average_precision(const at::Tensor& scores, const at::Tensor& targets, const RunContext& context) {
  const at::Tensor once = at::ones({1, scores.size(0)}, at::kInt);
  return average_precision_of_draws(scores, targets, once, context).squeeze(0);
}

}  // namespace ltrp
