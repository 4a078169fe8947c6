#include "core/engine/prior.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <limits>
#include <vector>

namespace ltrp {

namespace {

// Adds to sum[id] the rank of values[id] among those of `ids`.
void add_ranks(const double* values, std::vector<int64_t> ids, double* sum) {
  std::sort(ids.begin(), ids.end(), [&](int64_t a, int64_t b) { return values[a] < values[b]; });
  for (size_t first = 0, end = 0; first < ids.size(); first = end) {
    while (end < ids.size() && values[ids[end]] == values[ids[first]]) ++end;
    const double mean = static_cast<double>(first + end - 1) / 2;
    for (size_t i = first; i < end; ++i) sum[ids[i]] += mean;
  }
}

}  // namespace

at::Tensor nearness_to_centre(Grid grid) {
  const auto distances = [](int64_t cells) {
    return at::arange(cells, at::kDouble) - static_cast<double>(cells - 1) / 2;
  };
  const at::Tensor down = distances(grid.rows).unsqueeze(1), across = distances(grid.columns);
  return -(down * down + across * across).sqrt().flatten();
}

at::Tensor with_prior(const at::Tensor& logits, Grid grid, Prior prior) {
  if (prior == Prior::kNone) return logits;
  const int64_t n = logits.size(0), patches = grid.patches();
  const at::Tensor by_logit = logits.to(at::kDouble).contiguous();
  const at::Tensor by_place = nearness_to_centre(grid);
  const at::Tensor result = at::zeros({n, patches}, at::kDouble);
  constexpr double kNever = -std::numeric_limits<double>::infinity();
  for (int64_t image = 0; image < n; ++image) {
    const double* logit = by_logit.const_data_ptr<double>() + image * patches;
    double* sum = result.mutable_data_ptr<double>() + image * patches;
    std::vector<int64_t> ids;
    for (int64_t id = 0; id < patches; ++id) {
      if (logit[id] == kNever) {
        sum[id] = kNever;
      } else {
        ids.push_back(id);
      }
    }
    add_ranks(logit, ids, sum);
    add_ranks(by_place.const_data_ptr<double>(), ids, sum);
  }
  return result.to(logits.scalar_type());
}

}  // namespace ltrp
