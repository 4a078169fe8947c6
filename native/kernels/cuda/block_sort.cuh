// Sorting in shared memory, by one block. A key is 64 bits: the value so that its order is that of integers,
// above a tie-break that is different for every key. With that the order is total, and no network of
// exchanges can leave it otherwise than a stable sort does.
#pragma once

#include "kernels/cuda/device.h"

namespace ltrp::cuda {

constexpr uint64_t kLastKey = ~uint64_t{0};  // behind every key: fills up to a power of two

// Grows with x; equal for both zeros; NaN is above everything, as LibTorch sorts.
__device__ __forceinline__ uint32_t ordered_bits(float x) {
  if (x != x) return 0xffffffffU;
  const uint32_t bits = x == 0 ? 0U : __float_as_uint(x);
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

__device__ __forceinline__ float float_of_ordered(uint32_t bits) {
  return __uint_as_float((bits & 0x80000000U) != 0 ? bits & 0x7fffffffU : ~bits);
}

__device__ __forceinline__ uint64_t rising_key(float x, uint32_t tie) {
  return (static_cast<uint64_t>(ordered_bits(x)) << 32) | tie;
}
__device__ __forceinline__ uint64_t falling_key(float x, uint32_t tie) {
  return (static_cast<uint64_t>(~ordered_bits(x)) << 32) | tie;
}
__device__ __forceinline__ uint32_t upper_half(uint64_t key) { return static_cast<uint32_t>(key >> 32); }
__device__ __forceinline__ uint32_t lower_half(uint64_t key) { return static_cast<uint32_t>(key); }

// Bitonic sort, ascending, of `count` (a power of two) keys: log2(count) (log2(count) + 1) / 2 rounds of
// count / 2 exchanges, a barrier after each. The caller has a barrier between its writes and the call; the
// keys may be read after it.
template <typename Keys>
__device__ __forceinline__ void block_sort(Keys& keys, int count) {
  for (int span = 2; span <= count; span *= 2) {
    for (int step = span / 2; step > 0; step /= 2) {
      for (int pair = static_cast<int>(threadIdx.x); pair < count / 2; pair += static_cast<int>(blockDim.x)) {
        const int low = 2 * pair - (pair & (step - 1)), high = low + step;
        const uint64_t a = keys.load(low), b = keys.load(high);
        if ((a > b) == ((low & span) == 0)) {
          keys.store(low, b);
          keys.store(high, a);
        }
      }
      __syncthreads();
    }
  }
}

// The smallest power of two that is at least `count`, and not below `least`.
__host__ __device__ __forceinline__ int padded_to_power(int64_t count, int least) {
  int padded = least;
  while (padded < count) padded *= 2;
  return padded;
}

}  // namespace ltrp::cuda
