// Stable sorting of lists of any length that a caller may stop.
#pragma once

#include <algorithm>
#include <cstdint>
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

}  // namespace ltrp
