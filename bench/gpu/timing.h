// Time on the GPU, by events on the default stream, which LibTorch's operators use as well.
#pragma once

#include <cuda_runtime_api.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "sections.h"

namespace ltrp::bench::gpu {

inline void check(cudaError_t status) {
  if (status != cudaSuccess) throw std::runtime_error(cudaGetErrorString(status));
}

class Event {
 public:
  Event() { check(cudaEventCreate(&event_)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;

  void record() { check(cudaEventRecord(event_, nullptr)); }
  double seconds_since(const Event& begin) const {
    float ms = 0;
    check(cudaEventSynchronize(event_));
    check(cudaEventElapsedTime(&ms, begin.event_, event_));
    return ms * 1e-3;
  }

 private:
  cudaEvent_t event_ = nullptr;
};

// The median over rounds of the mean time of one call; a round takes some milliseconds, so that starting work
// does not count, and there are at least five.
template <typename Function>
double seconds_of(const Settings& settings, Function&& function) {
  function();
  check(cudaDeviceSynchronize());
  if (settings.small) return 0;
  Event begin, end;
  begin.record();
  function();
  end.record();
  const double once = std::max(end.seconds_since(begin), 1e-6);
  const int calls = static_cast<int>(std::clamp(5e-3 / once, 1.0, 1000.0));
  std::vector<double> rounds;
  const auto start = std::chrono::steady_clock::now();
  const auto elapsed = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  while (rounds.size() < 5 || elapsed() < settings.seconds) {
    begin.record();
    for (int i = 0; i < calls; ++i) function();
    end.record();
    rounds.push_back(end.seconds_since(begin) / calls);
  }
  std::nth_element(rounds.begin(), rounds.begin() + rounds.size() / 2, rounds.end());
  return rounds[rounds.size() / 2];
}

}  // namespace ltrp::bench::gpu
