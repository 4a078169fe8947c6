// Work in stages, shared out among LibTorch's threads: for what several threads compute together and have to
// meet over now and then, with one meeting instead of a parallel region per operator.
#pragma once

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <thread>

#include "kernels/interrupt.h"

namespace ltrp {

// How many of a stage's parts are done, over all stages, and a place to wait for it. Threads that work alike
// arrive within microseconds of each other and look again that long; a thread whose neighbour the system held
// up gives its processor away, and sleeps in the end.
class StageCounter {
 public:
  // Returns once `count` parts are done; false if the work was ended.
  bool wait_for(int64_t count) {
    for (int turn = 0;; ++turn) {
      const int64_t now = done_.load(std::memory_order_acquire);
      if (now >= count) return now < kEnded;
      if (turn < kLooks) {
#if defined(__x86_64__)
        __builtin_ia32_pause();
#endif
      } else if (turn < kLooks + kYields) {
        std::this_thread::yield();
      } else {
        done_.wait(now, std::memory_order_acquire);
      }
    }
  }
  void add_one() {
    done_.fetch_add(1, std::memory_order_acq_rel);
    done_.notify_all();
  }
  // Nobody waits any more.
  void end() {
    done_.store(kEnded, std::memory_order_release);
    done_.notify_all();
  }

 private:
  static constexpr int kLooks = 1000;
  static constexpr int kYields = 100;
  // Further parts may be counted on top of it.
  static constexpr int64_t kEnded = std::numeric_limits<int64_t>::max() / 2;
  std::atomic<int64_t> done_{0};
};

// Calls body(stage, part, state) for every part in [0, parts) of every stage in [0, stages). A stage begins
// when all parts of the one before are done, and sees what they wrote. A part stays with the thread that had
// it, so that its data stays in one core's cache; parts of threads that LibTorch does not supply, or that
// come late, are taken by the others. Inside a parallel region, or with a single thread, everything is done
// by this one. `start` is called once per thread and yields the state that the thread's calls of body share.
// An exception ends the work early and is passed on, and so does the caller's Interrupt.
template <typename Start, typename Body>
void for_stages(int64_t parts, int64_t stages, Start start, Body body) {
  const int64_t threads = at::in_parallel_region() ? 1 : std::min<int64_t>(parts, at::get_num_threads());
  const Interrupt interrupt = Interrupt::current();
  if (threads <= 1) {
    auto state = start();
    for (int64_t stage = 0; stage < stages; ++stage) {
      for (int64_t part = 0; part < parts; ++part) {
        interrupt.check();
        body(stage, part, state);
      }
    }
    return;
  }
  const auto count = static_cast<size_t>(parts);
  // Whether a thread has come that will take this part in every stage; and whether somebody took it.
  const auto owned = std::make_unique<std::atomic<bool>[]>(count);
  const auto taken = std::make_unique<std::atomic<bool>[]>(count * static_cast<size_t>(stages));
  std::atomic<int64_t> arrived{0};
  StageCounter done;
  const auto work = [&] {
    const InterruptScope scope(interrupt);
    const int64_t home = arrived++;
    try {
      auto state = start();
      owned[static_cast<size_t>(home)] = true;
      for (int64_t stage = 0; stage < stages; ++stage) {
        if (!done.wait_for(stage * parts)) return;
        for (int64_t i = 0; i < parts; ++i) {
          const int64_t part = (home + i) % parts;
          if (i > 0 && owned[static_cast<size_t>(part)]) continue;
          if (taken[static_cast<size_t>(stage * parts + part)].exchange(true)) continue;
          interrupt.check();
          body(stage, part, state);
          done.add_one();
        }
      }
    } catch (...) {
      done.end();
      throw;
    }
  };
  at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) work();
  });
}

}  // namespace ltrp
