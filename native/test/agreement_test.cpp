#include "core/engine/agreement.h"
#include "core/engine/average_precision.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/engine/ordering.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

// The definition: concordant minus discordant pairs over the geometric mean of the untied ones.
double naive_tau_b(const at::Tensor& a, const at::Tensor& b) {
  const int64_t n = a.size(0);
  double score = 0, untied_a = 0, untied_b = 0;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < i; ++j) {
      const double da = a[i].item<double>() - a[j].item<double>(),
                   db = b[i].item<double>() - b[j].item<double>();
      if (da * db > 0) score += 1;
      if (da * db < 0) score -= 1;
      if (da != 0) untied_a += 1;
      if (db != 0) untied_b += 1;
    }
  }
  return score / std::sqrt(untied_a * untied_b);
}

TEST_CASE("merge sort is a stable sort that counts exchanges") {
  for (const int64_t count : {0, 1, 2, 7, 64, 1000}) {
    CAPTURE(count);
    const at::Tensor keys = (random_tensor({std::max<int64_t>(count, 1)}, 7) * 20).round();
    const double* key = keys.const_data_ptr<double>();
    const auto less = [&](int64_t i, int64_t j) { return key[i] < key[j]; };
    std::vector<int64_t> expected(static_cast<size_t>(count));
    std::iota(expected.begin(), expected.end(), int64_t{0});
    double exchanges = 0;
    for (int64_t i = 0; i < count; ++i) {
      for (int64_t j = 0; j < i; ++j) exchanges += key[i] < key[j] ? 1 : 0;
    }
    std::vector<int64_t> got = expected;
    std::stable_sort(expected.begin(), expected.end(), less);
    CHECK(merge_sort(got, less, {}) == exchanges);
    CHECK(got == expected);
  }
}

TEST_CASE("measures of long lists stop when they are told to") {
  const at::Tensor a = random_tensor({1, 400'000}, 1), b = random_tensor({1, 400'000}, 2);
  const std::atomic<bool> cancelled = true;
  const RunContext context(&cancelled, nullptr);
  CHECK_THROWS_AS(kendall_tau(a, b, context), Error);
  CHECK_THROWS_AS(ndcg(a, b, 0, context), Error);
  CHECK_THROWS_AS(spearman(a, b, context), Error);
}

TEST_CASE("Kendall's tau-b equals its definition, with and without ties") {
  for (const int64_t items : {2, 3, 10, 33, 64}) {
    for (const double levels : {1e9, 4.0, 2.0}) {
      const at::Tensor a = (random_tensor({3, items}, static_cast<uint64_t>(items)) * levels).round();
      const at::Tensor b = (random_tensor({3, items}, static_cast<uint64_t>(items) + 1) * levels).round();
      const at::Tensor tau = kendall_tau(a, b);
      for (int64_t list = 0; list < 3; ++list) {
        const double expected = naive_tau_b(a[list], b[list]), got = tau[list].item<double>();
        CAPTURE(items);
        CAPTURE(levels);
        if (std::isnan(expected)) {
          CHECK(std::isnan(got));
        } else {
          CHECK(got == doctest::Approx(expected).epsilon(1e-12));
        }
      }
    }
  }
  const at::Tensor a = random_tensor({1, 20}, 1);
  CHECK(kendall_tau(a, a * 3 + 1).item<double>() == doctest::Approx(1));
  CHECK(kendall_tau(a, -a).item<double>() == doctest::Approx(-1));
}

TEST_CASE("NDCG is 1 for the right order and falls with every exchange") {
  const at::Tensor target = at::tensor({3.0, 1.0, 2.0, 0.0}, at::kDouble).view({1, 4});
  CHECK(ndcg(target, target).item<double>() == doctest::Approx(1));
  const double best = 3 / std::log2(2.0) + 2 / std::log2(3.0) + 1 / std::log2(4.0);
  const double swapped = 2 / std::log2(2.0) + 3 / std::log2(3.0) + 1 / std::log2(4.0);
  const at::Tensor predicted = at::tensor({2.0, 1.0, 3.0, 0.0}, at::kDouble).view({1, 4});
  CHECK(ndcg(predicted, target).item<double>() == doctest::Approx(swapped / best).epsilon(1e-12));
  CHECK(ndcg(predicted, at::ones({1, 4}, at::kDouble)).item<double>() == doctest::Approx(1));
}

// [n]: how many are smaller, and half of those that are equal, itself left out.
at::Tensor naive_places(const at::Tensor& values) {
  const at::Tensor rows = values.unsqueeze(1), columns = values.unsqueeze(0);
  return (columns < rows).sum(1).to(at::kDouble) + ((columns == rows).sum(1).to(at::kDouble) - 1) / 2;
}

TEST_CASE("Spearman's correlation equals its definition, with and without ties") {
  for (const int64_t items : {2, 3, 10, 33}) {
    for (const double levels : {1e9, 4.0}) {
      const at::Tensor a = (random_tensor({2, items}, static_cast<uint64_t>(items)) * levels).round();
      const at::Tensor b = (random_tensor({2, items}, static_cast<uint64_t>(items) + 1) * levels).round();
      const at::Tensor found = spearman(a, b);
      for (int64_t list = 0; list < 2; ++list) {
        const at::Tensor x = naive_places(a[list]), y = naive_places(b[list]);
        const at::Tensor dx = x - x.mean(), dy = y - y.mean();
        const double expected =
            ((dx * dy).sum() / (dx.square().sum() * dy.square().sum()).sqrt()).item<double>();
        const double got = found[list].item<double>();
        CHECK((std::isnan(expected) ? std::isnan(got) : got == doctest::Approx(expected).epsilon(1e-12)));
      }
    }
  }
  const at::Tensor a = random_tensor({1, 20}, 1);
  CHECK(spearman(a, a * 3 + 1).item<double>() == doctest::Approx(1));
  CHECK(std::isnan(spearman(a, at::ones({1, 20}, at::kDouble)).item<double>()));
}

TEST_CASE("NDCG of the first items reads no others") {
  const at::Tensor target = at::tensor({3.0, 1.0, 2.0, 0.0}, at::kDouble).view({1, 4});
  const at::Tensor predicted = at::tensor({2.0, 1.0, 3.0, 0.0}, at::kDouble).view({1, 4});
  CHECK(ndcg(predicted, target, 1).item<double>() == doctest::Approx(2.0 / 3));
  CHECK(ndcg(predicted, target, 4).item<double>() == ndcg(predicted, target).item<double>());
}

TEST_CASE("average precision of a draw is that of a data set with the images repeated") {
  constexpr int64_t kImages = 12, kClasses = 3;
  const at::Tensor scores = (random_tensor({kImages, kClasses}, 3) * 3).round();  // with ties
  const at::Tensor targets = (random_tensor({kImages, kClasses}, 4) > 0.3).to(at::kDouble);
  const at::Tensor times = at::tensor({0, 1, 2, 0, 3, 1, 1, 0, 0, 1, 2, 1, 1, 1, 1, 1, 1, 1,
                                       1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12},
                                      at::kInt)
                               .view({3, kImages});
  const at::Tensor found = average_precision_of_draws(scores, targets, times);
  for (int64_t draw = 0; draw < 3; ++draw) {
    const at::Tensor ids = at::repeat_interleave(at::arange(kImages), times[draw].to(at::kLong));
    const at::Tensor expected = average_precision(scores.index_select(0, ids), targets.index_select(0, ids));
    CHECK(at::allclose(found[draw], expected, 1e-12, 1e-12, /*equal_nan=*/true));
  }
  CHECK(at::equal(found[1].nan_to_num(-1), average_precision(scores, targets).nan_to_num(-1)));
}

}  // namespace
}  // namespace ltrp::test
