// Clocks and medians.
#pragma once

#include <algorithm>
#include <chrono>
#include <limits>
#include <vector>

namespace ltrp::bench {

using Clock = std::chrono::steady_clock;

inline double seconds_since(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

template <typename Function>
double seconds_of(Function&& function) {
  const Clock::time_point begin = Clock::now();
  function();
  return seconds_since(begin);
}

// Shortest of the runs that fit `budget` seconds, at least two; one more run, untimed, comes first (code
// generation, page faults, thread start).
template <typename Function>
double best_seconds(Function&& function, double budget) {
  function();
  double best = std::numeric_limits<double>::infinity();
  const Clock::time_point begin = Clock::now();
  for (int run = 0; run < 2 || seconds_since(begin) < budget; ++run)
    best = std::min(best, seconds_of(function));
  return best;
}

// The middle value, or the mean of the two in the middle; `values` must not be empty.
inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace ltrp::bench
