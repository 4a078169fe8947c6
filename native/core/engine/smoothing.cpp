#include "core/engine/smoothing.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>
#include <vector>

#include "core/engine/ordering.h"

namespace ltrp {

namespace {

// [cells, cells] float64, rows sum to 1: what each cell of a line is made of.
at::Tensor line_weights(int64_t cells, double sigma) {
  const at::Tensor places = at::arange(cells, at::kDouble);
  const at::Tensor distances = places.unsqueeze(1) - places;
  const at::Tensor weights = (-distances.square() / (2 * sigma * sigma)).exp();
  return weights / weights.sum(1, /*keepdim=*/true);
}

}  // namespace

at::Tensor smoothed_ranks(const at::Tensor& scores, Grid grid, double sigma, const RunContext& context) {
  if (sigma == 0) return scores;
  const int64_t n = scores.size(0), patches = grid.patches();
  const at::Tensor from = scores.to(at::kCPU).contiguous();
  at::Tensor ranks = at::zeros({n, patches}, at::kDouble);
  std::vector<int64_t> ids(static_cast<size_t>(patches));
  std::iota(ids.begin(), ids.end(), int64_t{0});
  const auto last = static_cast<double>(std::max<int64_t>(patches - 1, 1));
  for (int64_t image = 0; image < n; ++image) {
    double* rank = ranks.mutable_data_ptr<double>() + image * patches;
    for_mean_places(
        ids, from.const_data_ptr<float>() + image * patches,
        [&](int64_t id, double place) { rank[id] = place / last; }, context);
  }
  const at::Tensor down = line_weights(grid.rows, sigma), across = line_weights(grid.columns, sigma);
  const at::Tensor cells = ranks.view({n, grid.rows, grid.columns});
  return at::matmul(down, at::matmul(cells, across.t()))
      .view({n, patches})
      .to(scores.device(), scores.scalar_type());
}

}  // namespace ltrp
