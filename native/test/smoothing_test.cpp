#include "core/engine/smoothing.h"

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <cmath>

#include "test/core_support.h"

namespace ltrp::test {
namespace {

// By the formula, patch by patch.
at::Tensor by_hand(const at::Tensor& scores, Grid grid, double sigma) {
  const int64_t n = scores.size(0), patches = grid.patches();
  at::Tensor result = at::empty({n, patches}, at::kDouble);
  for (int64_t image = 0; image < n; ++image) {
    const auto score = [&](int64_t i) { return scores[image][i].item<float>(); };
    for (int64_t i = 0; i < patches; ++i) {
      double sum = 0, weights = 0;
      for (int64_t j = 0; j < patches; ++j) {
        double below = 0, equal = 0;
        for (int64_t k = 0; k < patches; ++k) {
          below += score(k) < score(j) ? 1 : 0;
          equal += score(k) == score(j) ? 1 : 0;
        }
        const double rank = (below + (equal - 1) / 2) / static_cast<double>(patches - 1);
        const auto down = static_cast<double>(i / grid.columns - j / grid.columns);
        const auto across = static_cast<double>(i % grid.columns - j % grid.columns);
        const double weight = std::exp(-(down * down + across * across) / (2 * sigma * sigma));
        sum += weight * rank;
        weights += weight;
      }
      result[image][i] = sum / weights;
    }
  }
  return result;
}

TEST_CASE("smoothed ranks are those of the formula, ties and borders among them") {
  const Grid grid{3, 5};
  at::Tensor scores = random_tensor({2, 15}, 1, at::kFloat);
  scores.slice(1, 4, 8).fill_(0.25);
  for (const double sigma : {0.3, 0.7, 2.0}) {
    CAPTURE(sigma);
    const at::Tensor smooth = smoothed_ranks(scores, grid, sigma, RunContext());
    CHECK((smooth - by_hand(scores, grid, sigma)).abs().max().item<double>() < 1e-6);
  }
}

TEST_CASE("only the order of the scores counts, and without smoothing they stay") {
  const at::Tensor scores = random_tensor({2, 15}, 2, at::kFloat);
  CHECK(at::equal(smoothed_ranks(scores, {3, 5}, 0.7, RunContext()),
                  smoothed_ranks((scores * 3).exp(), {3, 5}, 0.7, RunContext())));
  CHECK(at::equal(smoothed_ranks(scores, {3, 5}, 0, RunContext()), scores));
  CHECK(at::equal(smoothed_ranks(at::ones({1, 1}), {1, 1}, 1, RunContext()), at::zeros({1, 1})));
}

}  // namespace
}  // namespace ltrp::test
