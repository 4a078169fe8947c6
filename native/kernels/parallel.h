// Work shared out among LibTorch's threads as they come for it.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "kernels/interrupt.h"

namespace ltrp {

// Calls body(task, state) for every task in [0, tasks), from up to `most` of LibTorch's threads; inside a
// parallel region, or with a single thread, from this one. Each thread takes the next task when it has
// finished one, so that a thread that the system held up is not waited for; tasks are begun in order. `start`
// is called once per thread and yields the state that the thread's calls of body share. An exception ends the
// work early and is passed on, and so does the caller's Interrupt; body may ask `stopped`.
template <typename Start, typename Body>
void for_tasks(int64_t most, int64_t tasks, Start start, Body body, std::atomic<bool>* stopped = nullptr) {
  const int64_t threads =
      at::in_parallel_region() ? 1 : std::min<int64_t>({most, tasks, at::get_num_threads()});
  std::atomic<int64_t> next{0};
  const Interrupt interrupt = Interrupt::current();
  const auto work = [&] {
    const InterruptScope scope(interrupt);
    auto state = start();
    try {
      for (int64_t task = next++; task < tasks; task = next++) {
        interrupt.check();
        body(task, state);
      }
    } catch (...) {
      next = tasks;
      if (stopped != nullptr) *stopped = true;
      throw;
    }
  };
  if (threads <= 1) {
    work();
    return;
  }
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) work();
  });
}

// From all threads.
template <typename Start, typename Body>
void for_tasks(int64_t tasks, Start start, Body body, std::atomic<bool>* stopped = nullptr) {
  for_tasks(at::get_num_threads(), tasks, start, body, stopped);
}

}  // namespace ltrp
