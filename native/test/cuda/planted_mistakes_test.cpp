// The emulator itself: a kernel with one planted mistake is refused with a message that names what and where.
#include <doctest/doctest.h>

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"
#include "test/cuda/emulation_support.h"

namespace ltrp::test {
namespace {

using namespace ltrp::cuda;
using emulation::in_every_order;

constexpr unsigned kAll = 0xffffffffu;

// ------------------------------------------------------------------------------------------------

__global__ void missing_barrier(float* y) {
  __shared__ Shared<float, 64> partial;
  const unsigned t = threadIdx.x;
  partial[t] = 1.0f;
  // __syncthreads() is missing.
  y[t] = partial[63 - t];
}

TEST_CASE("planted missing barrier") {
  std::vector<float> y(64);
  in_every_order([&] {
    const std::string message = failure([&] { launch(missing_barrier, 1, 64, 0, nullptr, y.data()); });
    // Whether the read comes before the write of its partner, or after, is the order's.
    CHECK((message.find("race on partial[") == 0 || message.find("uninitialised: ") == 0));
    check_names(message,
                {"partial[", "(of 64, declared at planted_mistakes_test.cpp:", "y[t] = partial[63 - t];",
                 "thread (", "block (0,0,0)", "launched at planted_mistakes_test.cpp:"});
  });
  emulation::options().seed = 0;
  const std::string second = failure([&] { launch(missing_barrier, 1, 64, 0, nullptr, y.data()); });
  emulation::options().seed = 1;
  check_names(second, {"uninitialised: thread (0,0,0) reads partial[63]"});
}

// A loop that reuses its buffer: the barrier after reading is the one that is easily forgotten.
__global__ void write_after_read(int rounds, bool barrier, int* y) {
  __shared__ Shared<int, 64> buffer;
  const int t = static_cast<int>(threadIdx.x);
  int sum = 0;
  for (int r = 0; r < rounds; ++r) {
    buffer[t] = r + t;
    __syncthreads();
    sum += buffer[(t + 1) % 64];
    if (barrier) __syncthreads();
  }
  y[t] = sum;
}

TEST_CASE("planted race: a buffer is written again before everybody has read it") {
  std::vector<int> y(64);
  in_every_order([&] {
    launch(write_after_read, 1, 64, 0, nullptr, 4, true, y.data());
    for (int t = 0; t < 64; ++t) CHECK(y[static_cast<size_t>(t)] == 6 + 4 * ((t + 1) % 64));
    const std::string message =
        failure([&] { launch(write_after_read, 1, 64, 0, nullptr, 4, false, y.data()); });
    check_names(
        message,
        {"race on buffer[", "writes it at planted_mistakes_test.cpp:", "`buffer[t] = r + t;`",
         "reads it at planted_mistakes_test.cpp:", "`sum += buffer[(t + 1) % 64];`", "no barrier orders"});
  });
}

__global__ void same_element(int* y) {
  __shared__ Shared<int, 4> flags;
  flags[2] = static_cast<int>(threadIdx.x);
  __syncthreads();
  y[0] = flags[2];
}

TEST_CASE("planted race: two threads write the same element") {
  int y = 0;
  in_every_order([&] {
    check_names(failure([&] { launch(same_element, 1, 64, 0, nullptr, &y); }),
                {"race on flags[2] (of 4", "writes it at planted_mistakes_test.cpp:", "no barrier orders"});
  });
  CHECK(failure([&] { launch(same_element, 1, 1, 0, nullptr, &y); }) == "");
}

__global__ void shuffle_is_no_barrier(int* y) {
  __shared__ Shared<int, 32> slots;
  const int t = static_cast<int>(threadIdx.x);
  slots[t] = t;
  const int next = __shfl_sync(kAll, t, (t + 1) % 32);
  y[t] = slots[next];
}

TEST_CASE("a shuffle does not order shared memory, as CUDA's documentation says") {
  std::vector<int> y(32);
  in_every_order([&] {
    check_names(failure([&] { launch(shuffle_is_no_barrier, 1, 32, 0, nullptr, y.data()); }),
                {"race on slots[", "slots[t] = t;", "y[t] = slots[next];"});
  });
}

__global__ void syncwarp_across_warps(int* y) {
  __shared__ Shared<int, 64> slots;
  const unsigned t = threadIdx.x;
  slots[t] = 1;
  __syncwarp();
  y[t] = slots[(t + 32) % 64];
}

TEST_CASE("__syncwarp does not order different warps") {
  std::vector<int> y(64);
  in_every_order([&] {
    const std::string message = failure([&] { launch(syncwarp_across_warps, 1, 64, 0, nullptr, y.data()); });
    CHECK((message.find("race on slots[") == 0 || message.find("uninitialised: ") == 0));
  });
}

__global__ void partial_syncwarp(int* y) {
  __shared__ Shared<int, 32> slots;
  const unsigned t = threadIdx.x;
  slots[t] = 1;
  if (t < 16) {
    __syncwarp(0x0000ffffu);
  } else {
    __syncwarp(0xffff0000u);
  }
  y[t] = slots[31 - t];
}

TEST_CASE("__syncwarp orders the lanes of its mask only") {
  std::vector<int> y(32);
  in_every_order([&] {
    const std::string message = failure([&] { launch(partial_syncwarp, 1, 32, 0, nullptr, y.data()); });
    CHECK((message.find("race on slots[") == 0 || message.find("uninitialised: ") == 0));
  });
}

// Everybody reads what thread `writer` writes anew, without a barrier between.
__global__ void read_then_write(unsigned writer, int* y) {
  __shared__ Shared<int, 1> value;
  if (threadIdx.x == 0) value[0] = 7;
  __syncthreads();
  y[threadIdx.x] = value[0];
  if (threadIdx.x == writer) value[0] = 8;
}

// The lanes of a warp read, and write after a __syncwarp() that the other warp's readers know nothing of.
__global__ void read_by_two_warps(int* y) {
  __shared__ Shared<int, 1> value;
  if (threadIdx.x == 0) value[0] = 7;
  __syncthreads();
  y[threadIdx.x] = value[0];
  __syncwarp();
  if (threadIdx.x == 0) value[0] = 8;
}

// Neighbours exchange; the __syncwarp() before the second write is missing.
__global__ void write_after_read_in_warp(int* y) {
  __shared__ Shared<int, 32> slots;
  slots[threadIdx.x] = 1;
  __syncwarp();
  y[threadIdx.x] = slots[threadIdx.x ^ 1u];
  slots[threadIdx.x] = 2;
}

TEST_CASE("planted races of a write with earlier reads, whoever comes first") {
  std::vector<int> y(64);
  in_every_order([&] {
    for (const unsigned writer : {0u, 31u, 63u}) {
      check_names(failure([&] { launch(read_then_write, 1, 64, 0, nullptr, writer, y.data()); }),
                  {"race on value[0]"});
    }
    CHECK(failure([&] { launch(read_by_two_warps, 1, 32, 0, nullptr, y.data()); }) == "");
    check_names(failure([&] { launch(read_by_two_warps, 1, 64, 0, nullptr, y.data()); }),
                {"race on value[0]"});
    check_names(failure([&] { launch(write_after_read_in_warp, 1, 32, 0, nullptr, y.data()); }),
                {"race on slots["});
  });
}

__global__ void late_barrier(int n) {
  if (static_cast<int>(threadIdx.x) >= n) __syncthreads();
}

TEST_CASE("planted divergent barrier that is reached when others have ended") {
  in_every_order([&] {
    check_names(failure([&] { launch(late_barrier, 1, 64, 0, nullptr, 40); }),
                {"barrier divergence: thread (", "waits at the __syncthreads of", "has ended"});
  });
}

__global__ void off_by_one(float* y) {
  __shared__ Shared<float, 33> row;
  const unsigned t = threadIdx.x;
  row[t] = 0.0f;
  __syncthreads();
  y[t] = row[t] + row[t + 2];
}

__global__ void dynamic_off_by_one(float* y) {
  const DynamicShared<float> row(16, 32);
  const DynamicShared<float> next(16 + 32 * 4, 8);
  const unsigned t = threadIdx.x;
  if (t < 8) next[t] = 0.0f;
  row[t] = 0.0f;
  y[t] = row[t - 1 + t % 1];
}

TEST_CASE("planted off-by-one on shared memory") {
  std::vector<float> y(32);
  in_every_order([&] {
    const std::string message = failure([&] { launch(off_by_one, 1, 32, 0, nullptr, y.data()); });
    check_names(message, {"`y[t] = row[t] + row[t + 2];`"});
    // Element 32 was never written; whoever comes first is refused.
    const bool outside = message.find("out of bounds: thread (31,0,0) reads row[33] (of 33") == 0;
    const bool unwritten = message.find("uninitialised: thread (30,0,0) reads row[32]") == 0;
    CHECK((outside || unwritten));
  });
  check_names(failure([&] { launch(dynamic_off_by_one, 1, 32, 16 + 40 * 4, nullptr, y.data()); }), {"row["});
  emulation::options().seed = 0;
  check_names(failure([&] { launch(dynamic_off_by_one, 1, 32, 16 + 40 * 4, nullptr, y.data()); }),
              {"out of bounds: thread (0,0,0) reads row[4294967295] (of 32"});
  emulation::options().seed = 1;
  check_names(failure([&] { launch(dynamic_off_by_one, 1, 32, 16 + 39 * 4, nullptr, y.data()); }),
              {"out of bounds: next needs 176 bytes of dynamic shared memory, but the launch has 172"});
}

__global__ void divergent_barrier(int n, int* y) {
  const int t = static_cast<int>(threadIdx.x);
  if (t < n) {
    y[t] = 1;
    __syncthreads();  // inside the branch
  }
}

__global__ void two_barriers(int n, int* y) {
  const int t = static_cast<int>(threadIdx.x);
  if (t < n) {
    y[t] = 1;
    __syncthreads();  // first
  } else {
    __syncthreads();  // second
  }
}

TEST_CASE("planted divergent barrier") {
  std::vector<int> y(64);
  in_every_order([&] {
    CHECK(failure([&] { launch(divergent_barrier, 1, 64, 0, nullptr, 64, y.data()); }) == "");
    check_names(failure([&] { launch(divergent_barrier, 1, 64, 0, nullptr, 40, y.data()); }),
                {"barrier divergence: thread (", "has ended",
                 "waits at the __syncthreads of planted_mistakes_test.cpp:",
                 "`__syncthreads();  // inside the branch`", "block (0,0,0)"});
    check_names(
        failure([&] { launch(two_barriers, 1, 64, 0, nullptr, 40, y.data()); }),
        {"barrier divergence: thread (", "`__syncthreads();  // first`", "`__syncthreads();  // second`"});
  });
}

__global__ void shuffle_with_mask(unsigned mask, int lane, int* y) {
  y[threadIdx.x] = __shfl_sync(mask, static_cast<int>(threadIdx.x), lane);
}

__global__ void shuffle_in_branch(int* y) {
  if (threadIdx.x < 20) y[threadIdx.x] = __shfl_xor_sync(kAll, static_cast<int>(threadIdx.x), 1);
}

__global__ void shuffle_against_barrier(int* y) {
  if (threadIdx.x < 20) {
    y[threadIdx.x] = __shfl_xor_sync(kAll, static_cast<int>(threadIdx.x), 1);
  } else {
    __syncthreads();
  }
}

TEST_CASE("planted wrong shuffle masks") {
  std::vector<int> y(64);
  in_every_order([&] {
    CHECK(failure([&] { launch(shuffle_with_mask, 1, 32, 0, nullptr, kAll, 7, y.data()); }) == "");
    check_names(
        failure([&] { launch(shuffle_with_mask, 1, 32, 0, nullptr, 0x7fffffffu, 7, y.data()); }),
        {"wrong mask: thread (31,0,0) is lane 31, which is not in the mask 0x7fffffff of the __shfl_sync of "
         "planted_mistakes_test.cpp:"});
    check_names(failure([&] { launch(shuffle_with_mask, 1, 20, 0, nullptr, kAll, 25, y.data()); }),
                {"reads lane 25 by the __shfl_sync", "the block has only 20 threads in that warp"});
    check_names(failure([&] { launch(shuffle_in_branch, 1, 32, 0, nullptr, y.data()); }),
                {"inactive lane: thread (", "has ended", "__shfl_xor_sync", "0xffffffff"});
    check_names(failure([&] { launch(shuffle_against_barrier, 1, 32, 0, nullptr, y.data()); }),
                {"deadlock in block (0,0,0): thread (", "waits at the __syncthreads of",
                 "waits at the __shfl_xor_sync (mask 0xffffffff) of"});
  });
}

__global__ void unwritten(float* y) {
  __shared__ Shared<float, 8> row;
  if (threadIdx.x == 0) {
    for (int i = 0; i < 7; ++i) row[i] = 1.0f;
    y[0] = load16(row, 4)[3];
  }
}

__global__ void misaligned(float* y) {
  __shared__ Shared<float, 8> row;
  row.store4(2, make_float4(0, 0, 0, 0));
  y[0] = row[2];
}

__global__ void misaligned_global(const float* x, float* y) { y[0] = load4(x + 1).x; }

TEST_CASE("unwritten and misaligned memory") {
  alignas(16) static float y[8] = {};
  check_names(failure([&] { launch(unwritten, 2, 32, 0, nullptr, y); }),
              {"uninitialised: thread (0,0,0) reads row[7] (of 8", "no thread of the block has written"});
  check_names(failure([&] { launch(misaligned, 1, 1, 0, nullptr, y); }),
              {"misaligned: ", "row[2]", "row.store4(2"});
  check_names(failure([&] { launch(misaligned_global, 1, 1, 0, nullptr, y, y); }),
              {"thread (0,0,0) accesses 16 bytes of global memory", "16-byte boundary"});
}

template <int kBytes>
__global__ void much_shared(int* y) {
  __shared__ Shared<int, kBytes / 4> row;
  row[0] = 1;
  y[0] = row[0];
}

TEST_CASE("launches beyond the hardware's limits") {
  int y = 0;
  const auto threads = [&](dim3 block) {
    return failure([&] { launch(much_shared<64>, 1, block, 0, nullptr, &y); });
  };
  CHECK(threads(dim3(1)) == "");
  for (const dim3 block : {dim3(0), dim3(1025), dim3(33, 32), dim3(1, 1, 65), dim3(1u << 16, 1u << 16)}) {
    check_names(threads(block), {"launch at planted_mistakes_test.cpp:", "a block has 1 to 1024"});
  }
  for (const dim3 grid : {dim3(0), dim3(1, 65536), dim3(1, 1, 65536), dim3(1u << 31)}) {
    check_names(failure([&] { launch(much_shared<64>, grid, 1, 0, nullptr, &y); }), {"a grid of ("});
  }
  const auto shared = [&](int64_t bytes) {
    return failure([&] { launch(much_shared<64>, 1, 1, bytes, nullptr, &y); });
  };
  CHECK(shared(227 * 1024 - 64) == "");
  check_names(shared(227 * 1024 - 63), {"64 bytes of static and 232385 of dynamic shared memory"});
  check_names(shared(227 * 1024 + 1), {"232449 bytes of dynamic shared memory; a block has at most 232448"});
  CHECK(failure([&] { launch(much_shared<49152>, 1, 1, 0, nullptr, &y); }) == "");
  check_names(failure([&] { launch(much_shared<49156>, 1, 1, 0, nullptr, &y); }), {"at most 49152"});
}

struct Counted {
  explicit Counted(int* alive_) : alive(alive_) { ++*alive; }
  ~Counted() { --*alive; }
  int* alive;
};

__global__ void throwing(int* alive) {
  const Counted counted(alive);
  __syncthreads();
  if (threadIdx.x == 77) throw std::runtime_error("thread 77");
  __syncthreads();
}

TEST_CASE("an exception in a kernel reaches launch, and every thread has unwound") {
  int alive = 0, y = 0;
  in_every_order([&] {
    CHECK_THROWS_WITH_AS(launch(throwing, 1, 256, 0, nullptr, &alive), "thread 77", std::runtime_error);
    CHECK(alive == 0);
    CHECK(failure([&] { launch(much_shared<64>, 1, 256, 0, nullptr, &y); }).find("race") == 0);
    CHECK(failure([&] { launch(much_shared<64>, 5, 1, 0, nullptr, &y); }) == "");
  });
}

TEST_CASE("shared memory and barriers outside of a kernel are refused") {
  static Shared<int, 4> outside;
  check_names(failure([] { outside[0] = 1; }), {"outside of a kernel"});
  check_names(failure([] { __syncthreads(); }),
              {"__syncthreads outside of a kernel, at planted_mistakes_test.cpp:"});
}

}  // namespace
}  // namespace ltrp::test
