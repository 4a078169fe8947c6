// Sums, maxima and scans over the threads of a block, in an order that the block's shape alone decides: the
// same numbers give the same bits on every run. Every thread of the block must call them; blockDim.x is a
// multiple of 32, at most 1024.
#pragma once

#include "kernels/cuda/rounding.cuh"

namespace ltrp::cuda {

template <typename T>
__device__ __forceinline__ T shifted_up(T value, unsigned lanes) {
  return __shfl_up_sync(kAllLanes, value, lanes);
}

// What `combine` makes of the values of the threads before this one, in their order (`identity` for thread
// 0), and of all of them: 5 shuffles within the warps, then each thread walks the at most 31 totals of the
// warps before its own. `partial`: shared memory for 32 values.
template <typename T>
struct Scanned {
  T before;
  T total;
};

template <typename T, typename Combine, typename Partial>
__device__ __forceinline__ Scanned<T> block_scan(T value, T identity, Combine combine, Partial& partial) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  T inclusive = value;
  for (unsigned lanes = 1; lanes < 32; lanes *= 2) {
    const T other = shifted_up(inclusive, lanes);
    if (lane >= lanes) inclusive = combine(other, inclusive);
  }
  if (lane == 31) partial.store(static_cast<int>(warp), inclusive);
  const T neighbour = shifted_up(inclusive, 1);
  __syncthreads();
  T before = identity, total = identity;
  for (unsigned other = 0; other < warps; ++other) {
    if (other == warp) before = total;
    total = combine(total, partial.load(static_cast<int>(other)));
  }
  __syncthreads();  // partial may be used again
  return {lane == 0 ? before : combine(before, neighbour), total};
}

template <typename T, typename Combine, typename Partial>
__device__ __forceinline__ T block_reduce(T value, Combine combine, Partial& partial) {
  const unsigned lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
  for (int lanes = 16; lanes > 0; lanes /= 2) {
    value = combine(value, __shfl_xor_sync(kAllLanes, value, lanes));
  }
  if (lane == 0) partial.store(static_cast<int>(warp), value);
  __syncthreads();
  T total = partial.load(0);
  for (unsigned other = 1; other < warps; ++other) {
    total = combine(total, partial.load(static_cast<int>(other)));
  }
  __syncthreads();
  return total;
}

struct Add {
  template <typename T>
  __device__ __forceinline__ T operator()(T a, T b) const {
    return a + b;
  }
};
struct Larger {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};
struct Smaller {
  __device__ __forceinline__ int operator()(int a, int b) const { return a < b ? a : b; }
  __device__ __forceinline__ float operator()(float a, float b) const { return fminf(a, b); }
};

}  // namespace ltrp::cuda
