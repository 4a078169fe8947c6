// The emulator itself: kernels that are right pass in every order and give the right numbers; a kernel with
// one planted mistake is refused with a message that names what and where.
#include <doctest/doctest.h>

#include <cstdint>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"

namespace ltrp::test {
namespace {

using namespace ltrp::cuda;
using emulation::in_every_order;

constexpr unsigned kAll = 0xffffffffu;

// ---- kernels that are right
// ------------------------------------------------------------------------------------------

// Sum of n numbers by one block of any shape: warps by shuffles, then the first warp over the partial sums.
__global__ void block_sum(const float* x, int n, float* sum) {
  __shared__ Shared<float, 32> partial;
  const int threads = static_cast<int>(blockDim.x * blockDim.y * blockDim.z);
  const int t = static_cast<int>(threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z));
  float s = 0;
  for (int i = t; i < n; i += threads) s += x[i];
  // An incomplete warp has no lanes to read beyond its own: the missing ones count as zero.
  const int lanes = min(32, threads - t / 32 * 32);
  for (int d = 16; d > 0; d /= 2) {
    const int other = t % 32 + d < lanes ? t % 32 + d : t % 32;
    const float y = __shfl_sync(kAll, s, other);
    if (other != t % 32) s += y;
  }
  if (t % 32 == 0) partial[t / 32] = s;
  __syncthreads();
  if (t == 0) {
    float total = 0;
    for (int w = 0; w < (threads + 31) / 32; ++w) total += partial[w];
    sum[blockIdx.x] = total;
  }
}

TEST_CASE("a reduction over blocks of many shapes, incomplete warps among them") {
  std::vector<float> x(1000);
  std::iota(x.begin(), x.end(), 1.0f);
  for (const dim3 block : {dim3(1), dim3(7), dim3(31), dim3(32), dim3(33), dim3(5, 7), dim3(3, 5, 11),
                           dim3(100), dim3(2, 2, 64), dim3(1023), dim3(1024), dim3(1, 1024)}) {
    CAPTURE(block.x);
    CAPTURE(block.y);
    CAPTURE(block.z);
    in_every_order([&] {
      std::vector<float> sum(3, -1.0f);
      launch(block_sum, 3, block, 0, nullptr, x.data(), static_cast<int>(x.size()), sum.data());
      for (const float s : sum) CHECK(s == 500500.0f);
    });
  }
}

// Inclusive scan by doubling distances, two buffers of dynamic shared memory in turn.
__global__ void scan(const int* x, int* y) {
  const int n = static_cast<int>(blockDim.x);
  const int t = static_cast<int>(threadIdx.x);
  const DynamicShared<int> buffers(0, 2 * n);
  buffers[t] = x[t];
  int from = 0;
  for (int d = 1; d < n; d *= 2) {
    __syncthreads();
    const int mine = buffers[from + t];
    buffers[n - from + t] = t >= d ? mine + buffers[from + t - d] : mine;
    from = n - from;
  }
  y[t] = buffers[from + t];
}

TEST_CASE("a scan in dynamic shared memory") {
  for (const int n : {1, 2, 31, 33, 64, 200, 1000}) {
    std::vector<int> x(static_cast<size_t>(n)), expected(x.size()), y(x.size());
    for (int i = 0; i < n; ++i) x[static_cast<size_t>(i)] = i * i % 17 - 5;
    std::partial_sum(x.begin(), x.end(), expected.begin());
    in_every_order([&] {
      std::fill(y.begin(), y.end(), -99);
      launch(scan, 1, static_cast<unsigned>(n), 2 * n * static_cast<int64_t>(sizeof(int)), nullptr, x.data(),
             y.data());
      CHECK(y == expected);
    });
  }
}

template <int kTile>
__global__ void transpose(const float* x, int rows, int columns, float* y) {
  __shared__ Shared<float, kTile*(kTile + 1)> tile;
  const int r = static_cast<int>(blockIdx.y) * kTile, c = static_cast<int>(blockIdx.x) * kTile;
  const int tx = static_cast<int>(threadIdx.x), ty = static_cast<int>(threadIdx.y);
  if (r + ty < rows && c + tx < columns) tile[ty * (kTile + 1) + tx] = x[(r + ty) * columns + c + tx];
  __syncthreads();
  if (c + ty < columns && r + tx < rows) y[(c + ty) * rows + r + tx] = tile[tx * (kTile + 1) + ty];
}

TEST_CASE("a transposition through tiles") {
  const int rows = 37, columns = 53;
  std::vector<float> x(rows * columns);
  std::iota(x.begin(), x.end(), 0.0f);
  in_every_order([&] {
    std::vector<float> y(x.size(), -1.0f);
    launch(transpose<16>, dim3(4, 3), dim3(16, 16), 0, nullptr, x.data(), rows, columns, y.data());
    bool same = true;
    for (int r = 0; r < rows; ++r) {
      for (int c = 0; c < columns; ++c) {
        same = same && y[static_cast<size_t>(c * rows + r)] == x[static_cast<size_t>(r * columns + c)];
      }
    }
    CHECK(same);
  });
}

// Neighbouring lanes exchange through shared memory with __syncwarp alone; then in the other direction.
__global__ void exchange(int* y) {
  __shared__ Shared<int, 1024> slots;
  const unsigned t = threadIdx.x;
  slots[t] = static_cast<int>(t);
  __syncwarp();
  const int other = slots[t ^ 1u];
  __syncwarp();
  slots[t] = other * 10;
  __syncwarp();
  y[t] = slots[t ^ 1u];
}

TEST_CASE("__syncwarp orders the lanes of a warp") {
  std::vector<int> y(256);
  in_every_order([&] {
    launch(exchange, 1, 256, 0, nullptr, y.data());
    for (int t = 0; t < 256; ++t) CHECK(y[static_cast<size_t>(t)] == t * 10);
  });
}

__global__ void bytes_and_packs(const __nv_bfloat16* x, uint8_t* y) {
  const int n = static_cast<int>(blockDim.x);
  const DynamicShared<__nv_bfloat16> rows(0, 8 * n);
  const DynamicShared<uint8_t> quantised(16 * n, 8 * n);
  const int t = static_cast<int>(threadIdx.x);
  store16(rows, 8 * t, load16(x + 8 * t));
  __syncthreads();
  // Neighbouring threads write neighbouring bytes: no race.
  for (int k = 0; k < 8; ++k) quantised[k * n + t] = static_cast<uint8_t>(__bfloat162float(rows[k * n + t]));
  __syncthreads();
  if (t % 2 == 0) store16(y + 8 * t, load16(quantised, 8 * t));
}

TEST_CASE("16-byte access, views of different types in one dynamic memory") {
  const int n = 48;
  alignas(16) static __nv_bfloat16 x[8 * n];
  alignas(16) static uint8_t y[8 * n];
  for (int i = 0; i < 8 * n; ++i) x[i] = __float2bfloat16_rn(static_cast<float>(i % 251));
  in_every_order([&] {
    std::fill_n(y, 8 * n, uint8_t{255});
    launch(bytes_and_packs, 2, n, 24 * n, nullptr, x, y);
    for (int i = 0; i < 8 * n; ++i) CHECK(y[i] == i % 251);
  });
}

__global__ void primitives(int* out, unsigned* ballots) {
  const int t = static_cast<int>(threadIdx.x);
  int* row = out + 10 * t;
  row[0] = __shfl_sync(kAll, t, 3, 8);
  row[1] = __shfl_up_sync(kAll, t, 2, 16);
  row[2] = __shfl_down_sync(kAll, t, 3, 8);
  row[3] = __shfl_xor_sync(kAll, t, 5);
  row[4] = __any_sync(kAll, t % 32 == 31);
  row[5] = __all_sync(kAll, t >= 32);
  row[6] = __reduce_add_sync(kAll, t);
  row[7] = __syncthreads_count(t % 3 == 0);
  row[8] = __syncthreads_and(t < 63);
  row[9] = __syncthreads_or(t == 63);
  // Halves of a warp on different paths, each with its own mask.
  ballots[t] = t % 32 < 16 ? __ballot_sync(0x0000ffffu, t % 2) : __ballot_sync(0xffff0000u, t % 4 == 0);
}

TEST_CASE("warp primitives and voting barriers") {
  std::vector<int> out(640);
  std::vector<unsigned> ballots(64);
  in_every_order([&] {
    launch(primitives, 1, 64, 0, nullptr, out.data(), ballots.data());
    for (int t = 0; t < 64; ++t) {
      const int* row = out.data() + 10 * t;
      const std::vector<int> expected = {t / 8 * 8 + 3,
                                         t % 16 >= 2 ? t - 2 : t,
                                         t % 8 + 3 < 8 ? t + 3 : t,
                                         t ^ 5,
                                         1,
                                         t >= 32,
                                         t < 32 ? 496 : 1520,
                                         22,
                                         0,
                                         1};
      CHECK(std::vector<int>(row, row + 10) == expected);
      CHECK(ballots[static_cast<size_t>(t)] == (t % 32 < 16 ? 0x0000aaaau : 0x11110000u));
    }
  });
}

}  // namespace
}  // namespace ltrp::test
