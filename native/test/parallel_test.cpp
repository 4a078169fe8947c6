#include "kernels/parallel.h"

#include <doctest/doctest.h>

#include <stdexcept>
#include <vector>

namespace ltrp::test {
namespace {

struct Nothing {};

TEST_CASE("for_tasks does every task once, whatever the number of tasks") {
  for (const int64_t tasks : {0, 1, 2, 3, 100}) {
    std::vector<std::atomic<int>> done(static_cast<size_t>(tasks));
    std::atomic<int> starts{0};
    for_tasks(
        tasks,
        [&starts] {
          ++starts;
          return Nothing();
        },
        [&done](int64_t task, const Nothing&) { ++done[static_cast<size_t>(task)]; });
    for (const std::atomic<int>& count : done) CHECK(count == 1);
    CHECK(starts <= std::max(1, at::get_num_threads()));
  }
}

TEST_CASE("inside a parallel region for_tasks stays on its thread and in order") {
  std::atomic<int> wrong{0};
  at::parallel_for(0, 2, 1, [&wrong](int64_t begin, int64_t end) {
    if (!at::in_parallel_region()) return;  // a single thread
    for (int64_t i = begin; i < end; ++i) {
      int64_t next = 0;
      for_tasks(
          5, [] { return Nothing(); }, [&](int64_t task, const Nothing&) { wrong += task != next++; });
      wrong += next != 5;
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("an exception ends for_tasks early, is passed on, and tells the tasks that wait") {
  std::atomic<int> begun{0};
  std::atomic<bool> stopped{false};
  CHECK_THROWS_WITH_AS(for_tasks(
                           100000, [] { return Nothing(); },
                           [&](int64_t task, const Nothing&) {
                             ++begun;
                             if (task == 3) throw std::runtime_error("task 3");
                             // What a task that depends on task 3 does.
                             while (task > 3 && !stopped) {
                             }
                           },
                           &stopped),
                       "task 3", std::runtime_error);
  CHECK(stopped);
  CHECK(begun <= 4 + at::get_num_threads());
}

}  // namespace
}  // namespace ltrp::test
