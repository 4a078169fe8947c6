#include "core/engine/agreement.h"

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
  CHECK_THROWS_AS(ndcg(a, b, context), Error);
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

}  // namespace
}  // namespace ltrp::test
