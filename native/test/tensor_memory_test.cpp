// What the system says about the memory of tensors: pages that it had to find, and pages in use.
#include "kernels/cpu/tensor_memory.h"

#include <ATen/ATen.h>
#include <doctest/doctest.h>
#include <sys/resource.h>

#include <cstdio>
#include <thread>
#include <vector>

#if !defined(__SANITIZE_ADDRESS__) && defined(__linux__)
namespace {

int64_t page_faults() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_minflt;
}

int64_t resident_bytes() {
  int64_t all = 0, resident = 0;
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  REQUIRE(file != nullptr);
  CHECK(std::fscanf(file, "%ld %ld", &all, &resident) == 2);
  std::fclose(file);
  return resident * 4096;
}

constexpr int64_t kMiB = int64_t{1} << 20;

}  // namespace

TEST_CASE("a tensor's memory goes to the next one, and back to the system when asked") {
  ltrp::cpu::keep_tensor_memory();
  const auto fill = [](int64_t bytes) { at::empty({bytes / 4}, at::kFloat).fill_(1); };
  // More than the C library keeps.
  fill(64 * kMiB);
  const int64_t before = page_faults();
  for (int i = 0; i < 20; ++i) fill(64 * kMiB - 4 * i);
  CHECK(page_faults() - before < 64 * kMiB / 4096);  // one of the twenty would need that many

  const int64_t kept = resident_bytes();
  ltrp::cpu::release_tensor_memory();
  CHECK(kept - resident_bytes() > 60 * kMiB);

  // Not everything that was ever used is kept.
  {
    std::vector<at::Tensor> many;
    for (int i = 0; i < 12; ++i) many.push_back(at::ones({64 * kMiB / 4}));
    many.clear();
  }
  const int64_t most = resident_bytes();
  ltrp::cpu::release_tensor_memory();
  CHECK(most - resident_bytes() <= 520 * kMiB);
  CHECK(most - resident_bytes() > 400 * kMiB);
}
#endif

TEST_CASE("tensors of all sizes keep their values while threads make and drop others") {
  ltrp::cpu::keep_tensor_memory();
  std::vector<std::thread> threads;
  std::vector<int> wrong(4);
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([thread, &wrong] {
      std::vector<std::pair<at::Tensor, float>> live;
      uint64_t state = static_cast<uint64_t>(thread) + 1;
      for (int i = 0; i < 2000; ++i) {
        state = state * 6364136223846793005U + 1442695040888963407U;
        const auto value = static_cast<float>(thread * 10000 + i);
        const auto size = static_cast<int64_t>(state >> 33) % (i % 50 == 0 ? 1 << 20 : 40000);
        live.emplace_back(at::full({size}, value), value);
        if (live.size() > 8) live.erase(live.begin() + static_cast<int64_t>(state >> 40) % 8);
        for (const auto& [tensor, expected] : live) {
          if (tensor.numel() > 0 && !tensor.eq(expected).all().item<bool>())
            ++wrong[static_cast<size_t>(thread)];
          if (reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 64 != 0)
            ++wrong[static_cast<size_t>(thread)];
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int count : wrong) CHECK(count == 0);
}
