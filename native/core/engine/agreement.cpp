#include "core/engine/agreement.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "core/engine/ordering.h"

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

// Knight's algorithm (1966).
double tau_b(const double* a, const double* b, int64_t count, const RunContext& context) {
  const std::vector<int64_t> order = sorted_indices(
      count, [&](int64_t i, int64_t j) { return a[i] != a[j] ? a[i] < a[j] : b[i] < b[j]; }, context);
  const double pairs = static_cast<double>(count) * static_cast<double>(count - 1) / 2;
  const double tied_a =
      tied_pairs(order.size(), [&](size_t i, size_t j) { return a[order[i]] == a[order[j]]; });
  context.check();
  const double tied_both = tied_pairs(order.size(), [&](size_t i, size_t j) {
    return a[order[i]] == a[order[j]] && b[order[i]] == b[order[j]];
  });
  context.check();
  std::vector<double> values(order.size());
  for (size_t i = 0; i < order.size(); ++i) values[i] = b[order[i]];
  const double exchanges = merge_sort(values, std::less<>(), context);
  const double tied_b = tied_pairs(values.size(), [&](size_t i, size_t j) { return values[i] == values[j]; });
  const double scale = std::sqrt((pairs - tied_a) * (pairs - tied_b));
  if (scale == 0) return std::numeric_limits<double>::quiet_NaN();
  return (pairs - tied_a - tied_b + tied_both - 2 * exchanges) / scale;
}

// Places by rising value, from 0; equal values share the mean of theirs.
std::vector<double> mean_places(const double* values, int64_t count, const RunContext& context) {
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  std::vector<double> places(indices.size());
  for_mean_places(
      std::move(indices), values,
      [&](int64_t index, double place) { places[static_cast<size_t>(index)] = place; }, context);
  return places;
}

double rank_correlation(const double* a, const double* b, int64_t count, const RunContext& context) {
  const std::vector<double> x = mean_places(a, count, context), y = mean_places(b, count, context);
  const double mean = static_cast<double>(count - 1) / 2;
  double xy = 0, xx = 0, yy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    xy += (x[i] - mean) * (y[i] - mean);
    xx += (x[i] - mean) * (x[i] - mean);
    yy += (y[i] - mean) * (y[i] - mean);
  }
  const double scale = std::sqrt(xx) * std::sqrt(yy);
  return scale == 0 ? std::numeric_limits<double>::quiet_NaN() : xy / scale;
}

// Gain of `target` (its least value is worth 0) when its first k are read in the order of `by`, the
// highest first.
double cumulative_gain(const double* by, const double* target, int64_t count, int64_t k,
                       const RunContext& context) {
  const std::vector<int64_t> order = sorted_indices(
      count, [&](int64_t i, int64_t j) { return by[i] > by[j]; }, context);
  const double least = *std::min_element(target, target + count);
  double sum = 0;
  for (int64_t rank = 0; rank < k; ++rank) {
    if (rank % kItemsBetweenChecks == 0) context.check();
    sum += (target[order[static_cast<size_t>(rank)]] - least) / std::log2(static_cast<double>(rank) + 2);
  }
  return sum;
}

// [lists] float64 of a measure that takes two lists.
template <typename Measure>
at::Tensor of_lists(const at::Tensor& predicted, const at::Tensor& target, Measure measure) {
  const at::Tensor a = predicted.to(at::kDouble).contiguous(), b = target.to(at::kDouble).contiguous();
  const int64_t lists = a.size(0), items = a.size(1);
  at::Tensor result = at::empty({lists}, at::kDouble);
  for (int64_t i = 0; i < lists; ++i) {
    result.mutable_data_ptr<double>()[i] =
        measure(a.const_data_ptr<double>() + i * items, b.const_data_ptr<double>() + i * items, items);
  }
  return result;
}

}  // namespace

at::Tensor kendall_tau(const at::Tensor& predicted, const at::Tensor& target, const RunContext& context) {
  return of_lists(predicted, target, [&](const double* a, const double* b, int64_t items) {
    return tau_b(a, b, items, context);
  });
}

at::Tensor spearman(const at::Tensor& predicted, const at::Tensor& target, const RunContext& context) {
  return of_lists(predicted, target, [&](const double* a, const double* b, int64_t items) {
    return rank_correlation(a, b, items, context);
  });
}

at::Tensor ndcg(const at::Tensor& predicted, const at::Tensor& target, int64_t k, const RunContext& context) {
  return of_lists(predicted, target, [&](const double* a, const double* b, int64_t items) {
    const int64_t first = k > 0 && k < items ? k : items;
    const double best = cumulative_gain(b, b, items, first, context);
    // A constant target is ordered perfectly by anything.
    return best > 0 ? cumulative_gain(a, b, items, first, context) / best : 1.0;
  });
}

}  // namespace ltrp
