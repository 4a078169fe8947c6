// Stable sorting of lists of any length that a caller may stop.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <numeric>
#include <vector>

#include "core/run_context.h"

namespace ltrp {

// Between two looks at the cancel flag: some milliseconds of work.
constexpr int64_t kItemsBetweenChecks = int64_t{1} << 16;

// Merge sort in place; `less` is a strict weak order. Returns the number of pairs that stood in the wrong
// order (a bubble sort's exchanges). Takes another `values` of memory. Error(kCancelled).
template <typename Value, typename Less>
double merge_sort(std::vector<Value>& values, Less less, const RunContext& context) {
  const auto count = static_cast<int64_t>(values.size());
  std::vector<Value> merged(values.size());
  double exchanges = 0;
  int64_t unchecked = 0;
  for (int64_t width = 1; width < count; width *= 2) {
    for (int64_t left = 0; left < count; left += 2 * width) {
      const int64_t middle = std::min(left + width, count), right = std::min(left + 2 * width, count);
      int64_t i = left, j = middle;
      for (int64_t k = left; k < right; ++k) {
        const auto from = [&](int64_t index) { return values[static_cast<size_t>(index)]; };
        if (j >= right || (i < middle && !less(from(j), from(i)))) {
          merged[static_cast<size_t>(k)] = from(i++);
        } else {
          exchanges += static_cast<double>(middle - i);
          merged[static_cast<size_t>(k)] = from(j++);
        }
        if (++unchecked == kItemsBetweenChecks) {
          unchecked = 0;
          context.check();
        }
      }
    }
    values.swap(merged);
  }
  return exchanges;
}

// The indices 0 .. count - 1 in the order of `less`, equal ones as they were.
template <typename Less>
std::vector<int64_t> sorted_indices(int64_t count, Less less, const RunContext& context) {
  std::vector<int64_t> indices(static_cast<size_t>(count));
  std::iota(indices.begin(), indices.end(), int64_t{0});
  merge_sort(indices, less, context);
  return indices;
}

// Calls take(index, place) for each of the indices, the place by rising value, from 0: equal values share the
// mean of their places.
template <typename Value, typename Take>
void for_mean_places(std::vector<int64_t> indices, const Value* values, Take take,
                     const RunContext& context) {
  merge_sort(
      indices, [&](int64_t i, int64_t j) { return values[i] < values[j]; }, context);
  for (size_t first = 0, end = 0; first < indices.size(); first = end) {
    while (end < indices.size() && values[indices[end]] == values[indices[first]]) ++end;
    const double mean = static_cast<double>(first + end - 1) / 2;
    for (size_t i = first; i < end; ++i) take(indices[i], mean);
  }
}

// Those of the patches whose logit says that they are ranked: it is above -infinity.
inline std::vector<int64_t> ranked_patches(const float* logits, int64_t patches) {
  std::vector<int64_t> ranked;
  for (int64_t id = 0; id < patches; ++id) {
    if (logits[id] > -std::numeric_limits<float>::infinity()) ranked.push_back(id);
  }
  return ranked;
}

}  // namespace ltrp
