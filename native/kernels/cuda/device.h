// What a .cu file includes for CUDA itself. It has two faces with one vocabulary:
//
//   nvcc                  CUDA's own headers; Shared and DynamicShared are plain arrays and cost nothing
//   LTRP_EMULATE_CUDA     the header that it names (native/test/emulation/cuda.h): the same file as C++20,
//                         executed on the CPU, where every access to shared memory is checked for bounds, for
//                         initialisation and for races
//
// A .cu file keeps to what both faces have:
//
//   __shared__ Shared<float, 32> partial;          static shared memory: 32 floats, aligned to 16 bytes
//   DynamicShared<T> tile(offset_bytes, count);    part of the bytes that launch() was asked for
//   partial[i] = x;  const float x = partial[i];   one element. Name the type: `auto x = partial[i]` does not
//   compile
//                                                  in the emulation, whose elements are proxies
//   partial.load(i), partial.store(i, x)           the same as functions; use load() for members:
//   tile.load(i).x partial.load4(i), partial.store4(i, v)         16 bytes as float4, i in elements and on a
//   16-byte boundary load4(p), store4(p, v)                         16 bytes of global memory as float4, p on
//   a 16-byte boundary load16(p), store16(p, v)                       16 bytes of global memory as Pack<T>
//   load16(tile, i), store16(tile, i, v)           16 bytes of shared memory as Pack<T>
//   aligned16(p)                                   whether p may be accessed so
//   launch(kernel, grid, block, shared_bytes, stream, arguments...)    instead of <<< >>>
//
// No pointer into shared memory can be taken, for the emulation could not follow it: pass Shared and
// DynamicShared themselves to __device__ functions, by reference (a template parameter serves for both).
#pragma once

#include <cstdint>
#include <cstring>

#include "kernels/cuda/stream.h"

#if defined(LTRP_EMULATE_CUDA)
#include LTRP_EMULATE_CUDA
#else
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_fp8.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>
#endif

namespace ltrp::cuda {

#if defined(LTRP_EMULATE_CUDA)

using emulation::DynamicShared;
using emulation::Index;  // an int that knows where it is used, for messages
using emulation::launch;
using emulation::Shared;

#else

using Index = int;

// N elements of static shared memory, declared in a kernel or a __device__ function as `__shared__ Shared<T,
// N> name;`. Uninitialised when a block starts, as all shared memory.
template <typename T, int N>
struct alignas(16) Shared {
  T data[N];

  __device__ __forceinline__ T& operator[](int i) { return data[i]; }
  __device__ __forceinline__ const T& operator[](int i) const { return data[i]; }
  __device__ __forceinline__ T load(int i) const { return data[i]; }
  __device__ __forceinline__ void store(int i, const T& value) { data[i] = value; }
  __device__ __forceinline__ float4 load4(int i) const { return *reinterpret_cast<const float4*>(data + i); }
  __device__ __forceinline__ void store4(int i, float4 value) {
    *reinterpret_cast<float4*>(data + i) = value;
  }
  __host__ __device__ static constexpr int size() { return N; }
};

extern __shared__ float4 ltrp_dynamic_shared[];

// `count` elements of the launch's dynamic shared memory, `offset_bytes` from its start (a multiple of T's
// alignment; of 16 for 16-byte access). A view: copies name the same memory.
template <typename T>
struct DynamicShared {
  T* data;

  __device__ __forceinline__ DynamicShared(int offset_bytes, [[maybe_unused]] int count)
      : data(reinterpret_cast<T*>(reinterpret_cast<char*>(ltrp_dynamic_shared) + offset_bytes)) {}
  __device__ __forceinline__ T& operator[](int i) const { return data[i]; }
  __device__ __forceinline__ T load(int i) const { return data[i]; }
  __device__ __forceinline__ void store(int i, const T& value) const { data[i] = value; }
  __device__ __forceinline__ float4 load4(int i) const { return *reinterpret_cast<const float4*>(data + i); }
  __device__ __forceinline__ void store4(int i, float4 value) const {
    *reinterpret_cast<float4*>(data + i) = value;
  }
};

// std::runtime_error naming CUDA's reason, unless `status` is success.
inline void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

#if defined(__CUDACC__)
// Queues `kernel` on `stream` over `grid` blocks of `block` threads with `shared_bytes` of dynamic shared
// memory. std::runtime_error when CUDA refuses the launch; what goes wrong later shows at the next
// synchronisation.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, dim3 block, int64_t shared_bytes, Stream stream,
            Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments),
                "one argument for each of the kernel's parameters");
  // More than 48 KiB must be asked for; every kernel and device has its own upper limit.
  if (shared_bytes > 48 * 1024) {
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                               static_cast<int>(shared_bytes)),
          "dynamic shared memory");
  }
  kernel<<<grid, block, static_cast<size_t>(shared_bytes), stream>>>(static_cast<Parameters>(arguments)...);
  check(cudaGetLastError(), "kernel launch");
}
#endif

#endif

// 16 bytes of T: 4 floats, 8 of 2 bytes, 16 of 1 byte.
template <typename T>
struct alignas(16) Pack {
  static constexpr int kSize = static_cast<int>(16 / sizeof(T));
  T values[kSize];

  __device__ __forceinline__ T& operator[](int i) { return values[i]; }
  __device__ __forceinline__ const T& operator[](int i) const { return values[i]; }
};

template <typename To, typename From>
__device__ __forceinline__ To bits_as(const From& from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(To));
  return to;
}

// Whether p may be accessed 16 bytes at a time.
template <typename T>
__host__ __device__ __forceinline__ bool aligned16(const T* p) {
  return reinterpret_cast<uintptr_t>(p) % 16 == 0;
}

__device__ __forceinline__ float4 load4(const float* p) {
#if defined(LTRP_EMULATE_CUDA)
  emulation::require_aligned(p);
#endif
  return *reinterpret_cast<const float4*>(p);
}

__device__ __forceinline__ void store4(float* p, float4 value) {
#if defined(LTRP_EMULATE_CUDA)
  emulation::require_aligned(p);
#endif
  *reinterpret_cast<float4*>(p) = value;
}

template <typename T>
__device__ __forceinline__ Pack<T> load16(const T* p) {
#if defined(LTRP_EMULATE_CUDA)
  emulation::require_aligned(p);
#endif
  return *reinterpret_cast<const Pack<T>*>(p);
}

template <typename T>
__device__ __forceinline__ void store16(T* p, const Pack<T>& value) {
#if defined(LTRP_EMULATE_CUDA)
  emulation::require_aligned(p);
#endif
  *reinterpret_cast<Pack<T>*>(p) = value;
}

template <typename T, int N>
__device__ __forceinline__ Pack<T> load16(const Shared<T, N>& shared, Index i) {
  return bits_as<Pack<T>>(shared.load4(i));
}

template <typename T, int N>
__device__ __forceinline__ void store16(Shared<T, N>& shared, Index i, const Pack<T>& value) {
  shared.store4(i, bits_as<float4>(value));
}

template <typename T>
__device__ __forceinline__ Pack<T> load16(const DynamicShared<T>& shared, Index i) {
  return bits_as<Pack<T>>(shared.load4(i));
}

template <typename T>
__device__ __forceinline__ void store16(const DynamicShared<T>& shared, Index i, const Pack<T>& value) {
  shared.store4(i, bits_as<float4>(value));
}

}  // namespace ltrp::cuda
