#include "core/training/losses.h"

#include <doctest/doctest.h>

#include <atomic>
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
  CHECK_THROWS_AS(value_of<RankingLoss>("name", "list_mle", "it"), Error);
  RankingLossOptions options;
  options.k = 0;
  CHECK_THROWS_AS(ranking_loss(RankingLoss::kListMle, a, a, options), Error);
  CHECK_THROWS_AS(ranking_loss(RankingLoss::kFocusedRank, a, a, options), Error);
}

// All pairs at once, as the formula reads.
at::Tensor all_pairs(const at::Tensor& s, const at::Tensor& y, const at::Tensor& t, const at::Tensor& z) {
  const at::Tensor order = y.unsqueeze(2) - z.unsqueeze(1);
  const at::Tensor label =
      at::where(order.abs().lt(0.001), at::full_like(order, 0.5), order.gt(0).to(order.scalar_type()));
  return at::binary_cross_entropy_with_logits(s.unsqueeze(2) - t.unsqueeze(1), label) / 2;
}

TEST_CASE("losses over pairs in blocks are those over all pairs at once, with their gradients") {
  for (const auto& [lists, items] : {std::pair<int64_t, int64_t>{1, 1}, {70, 40}, {3, 300}, {1, 700}}) {
    CAPTURE(items);
    // Rounded, so that some targets are ties.
    const at::Tensor y = (random_tensor({lists, items}, 3) * 50).round() / 50;
    at::Tensor s = random_tensor({lists, items}, 4) * 3, reference = s.clone();
    s.requires_grad_(true);
    reference.requires_grad_(true);
    const at::Tensor got = ranking_loss(RankingLoss::kRankNet, s, y);
    const at::Tensor want = all_pairs(reference, y, reference, y);
    got.backward();
    want.backward();
    CHECK(got.item<double>() == doctest::Approx(want.item<double>()).epsilon(1e-13));
    CHECK((s.grad() - reference.grad()).abs().max().item<double>() <=
          1e-12 * reference.grad().abs().max().item<double>() + 1e-18);

    RankingLossOptions options;
    options.k = std::max<int64_t>(1, items / 3);
    at::Tensor p = s.detach().clone(), r = p.clone();
    p.requires_grad_(true);
    r.requires_grad_(true);
    const at::Tensor order = y.argsort(/*stable=*/true, 1, /*descending=*/true);
    const at::Tensor in = order.narrow(1, 0, *options.k),
                     out = order.narrow(1, *options.k, items - *options.k);
    at::Tensor focus = ranking_loss(RankingLoss::kListMle, r.gather(1, in), y.gather(1, in));
    if (items > 1)
      focus = focus + all_pairs(r.gather(1, in), y.gather(1, in), r.gather(1, out), y.gather(1, out));
    const at::Tensor focused = ranking_loss(RankingLoss::kFocusedRank, p, y, options);
    focused.backward();
    focus.backward();
    CHECK(focused.item<double>() == doctest::Approx(focus.item<double>()).epsilon(1e-13));
    CHECK((p.grad() - r.grad()).abs().max().item<double>() <= 1e-12);
  }
}

TEST_CASE("focused_rank with k beyond the list is list_mle on all of it") {
  const at::Tensor y = random_tensor({4, 9}, 1), s = random_tensor({4, 9}, 2);
  const double whole = ranking_loss(RankingLoss::kListMle, s, y).item<double>();
  for (const int64_t k : {9, 10, 1000}) {
    RankingLossOptions options;
    options.k = k;
    CHECK(ranking_loss(RankingLoss::kFocusedRank, s, y, options).item<double>() == whole);
  }
}

TEST_CASE("the bits of a loss and its gradient do not depend on the number of threads") {
  const int before = at::get_num_threads();
  for (const RankingLoss loss : kAll) {
    CAPTURE(static_cast<int>(loss));
    at::Tensor gradients[2];
    double values[2];
    for (const int threads : {1, 3}) {
      at::set_num_threads(threads);
      at::Tensor s = random_tensor({5, 513}, 8).to(at::kFloat);
      s.requires_grad_(true);
      RankingLossOptions options;
      options.k = 100;
      const at::Tensor value = ranking_loss(loss, s, random_tensor({5, 513}, 9).to(at::kFloat), options);
      value.backward();
      gradients[threads == 1] = s.grad();
      values[threads == 1] = value.item<double>();
    }
    CHECK(values[0] == values[1]);
    CHECK(at::equal(gradients[0], gradients[1]));
  }
  at::set_num_threads(before);
}

TEST_CASE("a loss over many items stops when it is told to") {
  const at::Tensor s = random_tensor({1, 600'000}, 1), y = random_tensor({1, 600'000}, 2);
  const std::atomic<bool> cancelled = true;
  const RunContext context(&cancelled, nullptr);
  for (const RankingLoss loss : {RankingLoss::kListMle, RankingLoss::kRankNet, RankingLoss::kFocusedRank}) {
    RankingLossOptions options;
    options.k = 300'000;
    CHECK_THROWS_AS(ranking_loss(loss, s, y, options, context), Error);
  }
}

}  // namespace
}  // namespace ltrp::test
