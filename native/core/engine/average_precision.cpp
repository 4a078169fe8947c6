#include "core/engine/average_precision.h"

#include <ATen/ATen.h>

#include <limits>
#include <vector>

#include "core/engine/ordering.h"

namespace ltrp {

namespace {

double of_class(const double* scores, const double* targets, int64_t images, const RunContext& context) {
  const std::vector<int64_t> order = sorted_indices(
      images, [&](int64_t i, int64_t j) { return scores[i] > scores[j]; }, context);
  double found = 0, sum = 0, fresh = 0;
  for (int64_t rank = 0; rank < images; ++rank) {
    if (rank % kItemsBetweenChecks == 0) context.check();
    const int64_t image = order[static_cast<size_t>(rank)];
    fresh += targets[image];
    const bool threshold =
        rank + 1 == images || scores[order[static_cast<size_t>(rank) + 1]] != scores[image];
    if (!threshold) continue;
    found += fresh;
    sum += fresh * found / static_cast<double>(rank + 1);
    fresh = 0;
  }
  return found > 0 ? sum / found : std::numeric_limits<double>::quiet_NaN();
}

}  // namespace

at::Tensor average_precision(const at::Tensor& scores, const at::Tensor& targets, const RunContext& context) {
  TORCH_CHECK(scores.sizes() == targets.sizes(), "scores and targets differ in shape");
  // By class, so that a class is one run of memory.
  const at::Tensor s = scores.t().to(at::kDouble).contiguous(), y = targets.t().to(at::kDouble).contiguous();
  const int64_t classes = s.size(0), images = s.size(1);
  at::Tensor result = at::empty({classes}, at::kDouble);
  for (int64_t c = 0; c < classes; ++c) {
    result.mutable_data_ptr<double>()[c] = of_class(s.const_data_ptr<double>() + c * images,
                                                    y.const_data_ptr<double>() + c * images, images, context);
    context.progress(c + 1, classes);
  }
  return result;
}

}  // namespace ltrp
