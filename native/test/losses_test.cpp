#include "core/training/losses.h"

#include <doctest/doctest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

const RankingLoss kAll[] = {RankingLoss::kPointWise, RankingLoss::kListNet, RankingLoss::kListMle,
                            RankingLoss::kRankNet, RankingLoss::kFocusedRank};

TEST_CASE("gradients of every loss agree with central differences") {
  for (const RankingLoss loss : kAll) {
    for (const auto& [lists, items] : {std::pair<int64_t, int64_t>{1, 1}, {3, 2}, {2, 7}, {4, 19}}) {
      RankingLossOptions options;
      options.k = std::max<int64_t>(1, items / 2);
      const at::Tensor target = random_tensor({lists, items}, 5);
      at::Tensor predicted = random_tensor({lists, items}, 6) * 2;
      const double error = worst_gradient_error(
          predicted, [&] { return ranking_loss(loss, predicted, target, options); }, 1);
      CAPTURE(static_cast<int>(loss));
      CAPTURE(items);
      CHECK(error < 1e-7);
    }
  }
}

TEST_CASE("list_mle is the negative log-likelihood of the target's order") {
  const at::Tensor target = random_tensor({3, 6}, 1), predicted = random_tensor({3, 6}, 2);
  double expected = 0;
  for (int64_t list = 0; list < 3; ++list) {
    std::vector<int64_t> order(6);
    std::iota(order.begin(), order.end(), 0);
    std::sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      return target[list][a].item<double>() > target[list][b].item<double>();
    });
    for (size_t j = 0; j < order.size(); ++j) {
      double sum = 0;
      for (size_t l = j; l < order.size(); ++l) sum += std::exp(predicted[list][order[l]].item<double>());
      expected += (std::log(sum) - predicted[list][order[j]].item<double>()) / 3;
    }
  }
  CHECK(ranking_loss(RankingLoss::kListMle, predicted, target).item<double>() ==
        doctest::Approx(expected).epsilon(1e-12));
  // Only differences of logits matter, at any magnitude.
  CHECK(ranking_loss(RankingLoss::kListMle, predicted + 800, target).item<double>() ==
        doctest::Approx(expected).epsilon(1e-10));
}

TEST_CASE("rank_net averages over all ordered pairs, the diagonal included") {
  const at::Tensor target = at::tensor({0.5, 0.5004, -1.0}, at::kDouble).view({1, 3});
  const at::Tensor predicted = at::tensor({0.3, -0.2, 2.0}, at::kDouble).view({1, 3});
  double expected = 0;
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 3; ++j) {
      const double dy = target[0][i].item<double>() - target[0][j].item<double>();
      const double label = std::abs(dy) < 0.001 ? 0.5 : (dy > 0 ? 1 : 0);
      const double p = 1 / (1 + std::exp(predicted[0][j].item<double>() - predicted[0][i].item<double>()));
      expected -= (label * std::log(p) + (1 - label) * std::log(1 - p)) / 9 / 2;
    }
  }
  CHECK(ranking_loss(RankingLoss::kRankNet, predicted, target).item<double>() ==
        doctest::Approx(expected).epsilon(1e-12));
}

TEST_CASE("list_mle with k beyond the list is the whole list; sampling depends on the seed only") {
  const at::Tensor target = random_tensor({4, 9}, 1), predicted = random_tensor({4, 9}, 2);
  RankingLossOptions all, few;
  all.k = 20;
  few.k = 4;
  few.seed = 11;
  const double whole = ranking_loss(RankingLoss::kListMle, predicted, target).item<double>();
  CHECK(ranking_loss(RankingLoss::kListMle, predicted, target, all).item<double>() ==
        doctest::Approx(whole).epsilon(1e-12));
  const double first = ranking_loss(RankingLoss::kListMle, predicted, target, few).item<double>();
  CHECK(ranking_loss(RankingLoss::kListMle, predicted, target, few).item<double>() == first);
  few.seed = 12;
  CHECK(ranking_loss(RankingLoss::kListMle, predicted, target, few).item<double>() != first);
}

TEST_CASE("wrong input is refused") {
  const at::Tensor a = random_tensor({2, 5}, 1), b = random_tensor({2, 4}, 1);
  CHECK_THROWS_AS(ranking_loss(RankingLoss::kListMle, a, b), Error);
  CHECK_THROWS_AS(ranking_loss(RankingLoss::kFocusedRank, a, a), Error);
  CHECK_THROWS_AS(parse_ranking_loss("list_mle"), Error);
  RankingLossOptions options;
  options.k = 0;
  CHECK_THROWS_AS(ranking_loss(RankingLoss::kListMle, a, a, options), Error);
  options.k = 6;
  CHECK_THROWS_AS(ranking_loss(RankingLoss::kFocusedRank, a, a, options), Error);
}

}  // namespace
}  // namespace ltrp::test
