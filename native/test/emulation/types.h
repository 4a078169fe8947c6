// CUDA's built-in vector types, qualifiers and variables, as far as the kernels use them.
#pragma once

#include <cstdint>

// The language's qualifiers mean nothing on the CPU, except that shared memory outlives a thread. Static
// shared memory is one static object per declaration: launches are serialised and blocks run one after
// another.
#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)
#define __grid_constant__
#define __shared__ static

#define LTRP_EMULATION_VECTORS(scalar, name, align2, align4)                        \
  struct alignas(align2) name##2 { scalar x, y; };                                  \
  struct name##3 { scalar x, y, z; };                                               \
  struct alignas(align4) name##4 { scalar x, y, z, w; };                            \
  inline name##2 make_##name##2(scalar x, scalar y) { return {x, y}; }              \
  inline name##3 make_##name##3(scalar x, scalar y, scalar z) { return {x, y, z}; } \
  inline name##4 make_##name##4(scalar x, scalar y, scalar z, scalar w) { return {x, y, z, w}; }

LTRP_EMULATION_VECTORS(float, float, 8, 16)
LTRP_EMULATION_VECTORS(int, int, 8, 16)
LTRP_EMULATION_VECTORS(unsigned, uint, 8, 16)
LTRP_EMULATION_VECTORS(short, short, 4, 8)
LTRP_EMULATION_VECTORS(unsigned short, ushort, 4, 8)
LTRP_EMULATION_VECTORS(signed char, char, 2, 4)
LTRP_EMULATION_VECTORS(unsigned char, uchar, 2, 4)
LTRP_EMULATION_VECTORS(double, double, 16, 16)
LTRP_EMULATION_VECTORS(long long, longlong, 16, 16)
LTRP_EMULATION_VECTORS(unsigned long long, ulonglong, 16, 16)
#undef LTRP_EMULATION_VECTORS

struct dim3 {
  unsigned x = 1, y = 1, z = 1;

  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
};

// Of the thread that runs; set whenever another one is resumed.
inline uint3 threadIdx{};
inline uint3 blockIdx{};
inline dim3 blockDim{};
inline dim3 gridDim{};
inline constexpr int warpSize = 32;
