#include "core/engine/agreement.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace ltrp {

namespace {

// Pairs within runs of equal neighbours.
template <typename Equal>
double tied_pairs(size_t count, Equal equal) {
  double pairs = 0;
  size_t run = 1;
  for (size_t i = 1; i <= count; ++i) {
    if (i < count && equal(i - 1, i)) {
      ++run;
      continue;
    }
    pairs += static_cast<double>(run) * static_cast<double>(run - 1) / 2;
    run = 1;
  }
  return pairs;
}

// Sorts values in place and returns the number of exchanges a bubble sort would need (strict inversions).
double sort_counting_exchanges(std::vector<double>& values, std::vector<double>& scratch) {
  double exchanges = 0;
  const size_t count = values.size();
  for (size_t width = 1; width < count; width *= 2) {
    for (size_t left = 0; left < count; left += 2 * width) {
      const size_t middle = std::min(left + width, count), right = std::min(left + 2 * width, count);
      size_t i = left, j = middle, k = left;
      while (i < middle || j < right) {
        if (j >= right || (i < middle && values[i] <= values[j])) {
          scratch[k++] = values[i++];
        } else {
          exchanges += static_cast<double>(middle - i);
          scratch[k++] = values[j++];
        }
      }
    }
    values.swap(scratch);
  }
  return exchanges;
}

// Knight's algorithm (1966).
double tau_b(const double* a, const double* b, size_t count) {
  std::vector<size_t> order(count);
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(),
            [&](size_t i, size_t j) { return a[i] != a[j] ? a[i] < a[j] : b[i] < b[j]; });
  const double pairs = static_cast<double>(count) * static_cast<double>(count - 1) / 2;
  const double tied_a = tied_pairs(count, [&](size_t i, size_t j) { return a[order[i]] == a[order[j]]; });
  const double tied_both = tied_pairs(
      count, [&](size_t i, size_t j) { return a[order[i]] == a[order[j]] && b[order[i]] == b[order[j]]; });
  std::vector<double> values(count), scratch(count);
  for (size_t i = 0; i < count; ++i) values[i] = b[order[i]];
  const double exchanges = sort_counting_exchanges(values, scratch);
  const double tied_b = tied_pairs(count, [&](size_t i, size_t j) { return values[i] == values[j]; });
  const double scale = std::sqrt((pairs - tied_a) * (pairs - tied_b));
  if (scale == 0) return std::numeric_limits<double>::quiet_NaN();
  return (pairs - tied_a - tied_b + tied_both - 2 * exchanges) / scale;
}

}  // namespace

at::Tensor kendall_tau(const at::Tensor& predicted, const at::Tensor& target) {
  const at::Tensor a = predicted.to(at::kDouble).contiguous(), b = target.to(at::kDouble).contiguous();
  const int64_t lists = a.size(0), items = a.size(1);
  at::Tensor result = at::empty({lists}, at::kDouble);
  for (int64_t i = 0; i < lists; ++i) {
    result.mutable_data_ptr<double>()[i] =
        tau_b(a.const_data_ptr<double>() + i * items, b.const_data_ptr<double>() + i * items,
              static_cast<size_t>(items));
  }
  return result;
}

at::Tensor ndcg(const at::Tensor& predicted, const at::Tensor& target) {
  const at::Tensor gain =
      target.to(at::kDouble) - std::get<0>(target.to(at::kDouble).min(1, /*keepdim=*/true));
  const at::Tensor discount = 1 / at::arange(2, target.size(1) + 2, at::kDouble).log2();
  const auto cumulative = [&](const at::Tensor& order) { return (gain.gather(1, order) * discount).sum(1); };
  const at::Tensor best = cumulative(gain.argsort(/*stable=*/true, 1, /*descending=*/true));
  const at::Tensor got = cumulative(predicted.argsort(/*stable=*/true, 1, /*descending=*/true));
  // A constant target is ordered perfectly by anything.
  return at::where(best.gt(0), got / best, at::ones_like(best));
}

}  // namespace ltrp
