#include "kernels/stages.h"

#include <doctest/doctest.h>

#include <chrono>
#include <ctime>
#include <stdexcept>
#include <vector>

#include "test/core_support.h"

namespace ltrp::test {
namespace {

struct Nothing {};

const auto kStart = [] { return Nothing(); };

TEST_CASE("for_stages does every part of every stage once, after the whole stage before") {
  for (const int threads : {1, 2, 3, 8}) {
    const ThreadCount set(threads);
    for (const int64_t parts : {1, 2, 3, 7}) {
      for (int round = 0; round < 100; ++round) {
        constexpr int64_t kStages = 20;
        std::vector<std::atomic<int>> done(static_cast<size_t>(kStages * parts));
        // Not atomic: each stage must see what the one before wrote.
        std::vector<int64_t> written(static_cast<size_t>(parts), -1), next(written);
        std::atomic<int> wrong{0};
        for_stages(parts, kStages, kStart, [&](int64_t stage, int64_t part, const Nothing&) {
          std::vector<int64_t>&from = stage % 2 == 0 ? written : next, &to = stage % 2 == 0 ? next : written;
          for (const int64_t value : from) wrong += value != stage - 1;
          to[static_cast<size_t>(part)] = stage;
          ++done[static_cast<size_t>(stage * parts + part)];
        });
        for (const std::atomic<int>& count : done) wrong += count != 1;
        REQUIRE(wrong == 0);
      }
    }
  }
}

TEST_CASE("a part stays with its thread") {
  const ThreadCount set(2);
  std::vector<int> thread_of(2 * 50);
  for_stages(2, 50, kStart, [&](int64_t stage, int64_t part, const Nothing&) {
    thread_of[static_cast<size_t>(2 * stage + part)] = at::get_thread_num();
    // Long enough for a thread that has to be woken first.
    std::this_thread::sleep_for(std::chrono::milliseconds(stage == 0 ? 20 : 0));
  });
  int moves = 0;
  for (size_t i = 4; i < thread_of.size(); ++i) moves += thread_of[i] != thread_of[i - 2];
  CHECK(moves == 0);
}

TEST_CASE("parts of threads that come late are taken by the others") {
  const ThreadCount set(4);
  const auto begin = std::chrono::steady_clock::now();
  std::atomic<int> starts{0}, done{0};
  std::chrono::duration<double> last{0};
  for_stages(
      4, 30,
      [&starts] {
        if (starts++ > 0) std::this_thread::sleep_for(std::chrono::milliseconds(500));
        return Nothing();
      },
      [&](int64_t, int64_t, const Nothing&) {
        if (++done == 4 * 30) last = std::chrono::steady_clock::now() - begin;
      });
  CHECK(done == 4 * 30);
  CHECK(last.count() < 0.4);
}

TEST_CASE("inside a parallel region for_stages stays on its thread and in order") {
  std::atomic<int> wrong{0};
  at::parallel_for(0, 2, 1, [&wrong](int64_t begin, int64_t end) {
    if (!at::in_parallel_region()) return;  // a single thread
    for (int64_t i = begin; i < end; ++i) {
      int64_t next = 0;
      for_stages(3, 5, kStart,
                 [&](int64_t stage, int64_t part, const Nothing&) { wrong += stage * 3 + part != next++; });
      wrong += next != 15;
    }
  });
  CHECK(wrong == 0);
}

TEST_CASE("an exception ends for_stages early and is passed on; nobody waits for the part that failed") {
  for (const int threads : {1, 2, 3}) {
    const ThreadCount set(threads);
    for (int64_t i = 0; i < 300; ++i) {
      const int64_t bad_stage = i % 5, bad_part = i / 5 % 3;
      std::atomic<int> later{0};
      CHECK_THROWS_WITH_AS(for_stages(3, 5, kStart,
                                      [&](int64_t stage, int64_t part, const Nothing&) {
                                        if (stage == bad_stage && part == bad_part)
                                          throw std::runtime_error("that part");
                                        later += stage > bad_stage;
                                      }),
                           "that part", std::runtime_error);
      CHECK(later == 0);
    }
  }
}

TEST_CASE("a thread that cannot start ends for_stages") {
  const ThreadCount set(2);
  std::atomic<int> starts{0};
  CHECK_THROWS_WITH_AS(for_stages(
                           2, 5,
                           [&starts]() -> Nothing {
                             if (starts++ > 0) throw std::runtime_error("no state");
                             return {};
                           },
                           [](int64_t, int64_t, const Nothing&) {
                             std::this_thread::sleep_for(std::chrono::milliseconds(5));
                           }),
                       "no state", std::runtime_error);
}

TEST_CASE("a thread that waits long sleeps, and is woken") {
  const ThreadCount set(2);
  const auto cpu_seconds = [] {
    timespec time = {};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
  };
  const double before = cpu_seconds();
  for_stages(2, 3, kStart, [](int64_t, int64_t part, const Nothing&) {
    if (part == 0) std::this_thread::sleep_for(std::chrono::milliseconds(200));
  });
  CHECK(cpu_seconds() - before < 0.2);
}

}  // namespace
}  // namespace ltrp::test
