#include "core/engine/prior.h"

#include <ATen/ATen.h>

#include <limits>
#include <vector>

#include "core/engine/ordering.h"

namespace ltrp {

namespace {

// [L] float64, the larger the nearer to the middle: minus (y / rows)^2 + (x / columns)^2, times a number that
// makes all of them integers, so that equal distances are equal.
at::Tensor nearness_to_centre(Grid grid) {
  const auto squares = [](int64_t cells, int64_t others) {
    return ((2 * at::arange(cells, at::kDouble) - static_cast<double>(cells - 1)) * others).square();
  };
  return -(squares(grid.rows, grid.columns).unsqueeze(1) + squares(grid.columns, grid.rows)).flatten();
}

}  // namespace

at::Tensor with_prior(const at::Tensor& logits, Grid grid, Prior prior, const RunContext& context) {
  if (prior == Prior::kNone) return logits;
  const int64_t n = logits.size(0), patches = grid.patches();
  const at::Tensor by_logit = logits.contiguous();
  const at::Tensor by_place = nearness_to_centre(grid);
  at::Tensor result = at::full_like(by_logit, -std::numeric_limits<float>::infinity());
  for (int64_t image = 0; image < n; ++image) {
    const float* logit = by_logit.const_data_ptr<float>() + image * patches;
    float* sum = result.mutable_data_ptr<float>() + image * patches;
    const std::vector<int64_t> ids = ranked_patches(logit, patches);
    for_mean_places(
        ids, logit, [&](int64_t id, double rank) { sum[id] = static_cast<float>(rank); }, context);
    for_mean_places(
        ids, by_place.const_data_ptr<double>(),
        [&](int64_t id, double rank) { sum[id] += static_cast<float>(rank); }, context);
  }
  return result;
}

}  // namespace ltrp
