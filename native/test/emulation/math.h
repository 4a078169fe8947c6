// CUDA's device functions for single numbers, as far as the kernels use them. Those of <cmath> (expf, fmaf,
// erff, ...) are the C library's, which is at least as exact as CUDA's. The CPU rounds a * b + c twice where
// nvcc contracts it to one fused operation: sums of a kernel may differ from the GPU's in the last bit.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "test/emulation/types.h"

namespace ltrp::emulation {

// The fast functions as the hardware forms them: one multiplication around a function of base two.
inline float fast_exp(float x) { return std::exp2(x * 1.4426950408889634f); }
inline float fast_log(float x) { return std::log2(x) * 0.6931471805599453f; }

// Rounded to nearest, ties to even; the nearest end of the range beyond it, 0 for NaN.
template <typename Integer, typename Real>
Integer round_to(Real x) {
  if (std::isnan(x)) return 0;
  const Real rounded = std::nearbyint(x);
  // 2^31, 2^32, ... are representable where the largest integers are not.
  if (rounded >= std::ldexp(Real(1), std::numeric_limits<Integer>::digits))
    return std::numeric_limits<Integer>::max();
  if (rounded <= static_cast<Real>(std::numeric_limits<Integer>::min()))
    return std::numeric_limits<Integer>::min();
  return static_cast<Integer>(rounded);
}

}  // namespace ltrp::emulation

// The C library declares functions of these names, and does not have them.
#define __expf(x) ltrp::emulation::fast_exp(x)
#define __logf(x) ltrp::emulation::fast_log(x)
#define __log2f(x) std::log2(x)
#define __powf(x, y) std::exp2((y)*std::log2(x))
#define __sinf(x) std::sin(x)
#define __cosf(x) std::cos(x)

#if !defined(__GLIBC__) || !__GLIBC_PREREQ(2, 41)
inline float rsqrtf(float x) { return static_cast<float>(1.0 / std::sqrt(static_cast<double>(x))); }
inline double rsqrt(double x) { return 1.0 / std::sqrt(x); }
#endif
inline float __frsqrt_rn(float x) { return rsqrtf(x); }
inline float __frcp_rn(float x) { return 1.0f / x; }
inline float __fsqrt_rn(float x) { return std::sqrt(x); }
inline float __fadd_rn(float a, float b) { return a + b; }
inline float __fsub_rn(float a, float b) { return a - b; }
inline float __fmul_rn(float a, float b) { return a * b; }
inline float __fdiv_rn(float a, float b) { return a / b; }
inline float __fdividef(float a, float b) { return a / b; }
inline float fdividef(float a, float b) { return a / b; }
inline float __fmaf_rn(float a, float b, float c) { return std::fma(a, b, c); }
inline float __saturatef(float x) { return x > 0.0f ? (x < 1.0f ? x : 1.0f) : 0.0f; }  // NaN becomes 0

inline int max(int a, int b) { return a < b ? b : a; }
inline int min(int a, int b) { return b < a ? b : a; }
inline unsigned max(unsigned a, unsigned b) { return a < b ? b : a; }
inline unsigned min(unsigned a, unsigned b) { return b < a ? b : a; }
inline long max(long a, long b) { return a < b ? b : a; }
inline long min(long a, long b) { return b < a ? b : a; }
inline long long max(long long a, long long b) { return a < b ? b : a; }
inline long long min(long long a, long long b) { return b < a ? b : a; }
inline float max(float a, float b) { return std::fmax(a, b); }
inline float min(float a, float b) { return std::fmin(a, b); }

inline unsigned __float_as_uint(float x) { return std::bit_cast<unsigned>(x); }
inline int __float_as_int(float x) { return std::bit_cast<int>(x); }
inline float __uint_as_float(unsigned x) { return std::bit_cast<float>(x); }
inline float __int_as_float(int x) { return std::bit_cast<float>(x); }

inline int __float2int_rn(float x) { return ltrp::emulation::round_to<int>(x); }
inline int __float2int_rz(float x) { return ltrp::emulation::round_to<int>(std::trunc(x)); }
inline int __float2int_rd(float x) { return ltrp::emulation::round_to<int>(std::floor(x)); }
inline int __float2int_ru(float x) { return ltrp::emulation::round_to<int>(std::ceil(x)); }
inline unsigned __float2uint_rn(float x) { return ltrp::emulation::round_to<unsigned>(x); }
inline unsigned __float2uint_rz(float x) { return ltrp::emulation::round_to<unsigned>(std::trunc(x)); }
inline long long __float2ll_rn(float x) { return ltrp::emulation::round_to<long long>(x); }
inline float __int2float_rn(int x) { return static_cast<float>(x); }
inline float __uint2float_rn(unsigned x) { return static_cast<float>(x); }
inline float __ll2float_rn(long long x) { return static_cast<float>(x); }

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __popcll(unsigned long long x) { return std::popcount(x); }
inline int __clz(int x) { return std::countl_zero(static_cast<unsigned>(x)); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }

// Four products of signed bytes, added to c.
inline int __dp4a(int a, int b, int c) {
  unsigned sum = static_cast<unsigned>(c);  // wraps around, as the hardware's
  for (int shift = 0; shift < 32; shift += 8) {
    sum += static_cast<unsigned>(static_cast<int8_t>(a >> shift) * static_cast<int8_t>(b >> shift));
  }
  return static_cast<int>(sum);
}

// Loads and stores with a hint to the cache.
template <typename T>
T __ldg(const T* p) {
  return *p;
}
template <typename T>
T __ldcs(const T* p) {
  return *p;
}
template <typename T>
T __ldcg(const T* p) {
  return *p;
}
template <typename T>
void __stcs(T* p, std::type_identity_t<T> value) {
  *p = value;
}
template <typename T>
void __stcg(T* p, std::type_identity_t<T> value) {
  *p = value;
}

// Atomics of integers on global memory: their results do not depend on the order. Threads change places at
// barriers only, so that a plain read-modify-write is atomic here.
template <typename T>
  requires std::is_integral_v<T>
T atomicAdd(T* p, std::type_identity_t<T> value) {
  const T before = *p;
  *p = static_cast<T>(before + value);
  return before;
}
template <typename T>
  requires std::is_integral_v<T>
T atomicMax(T* p, std::type_identity_t<T> value) {
  const T before = *p;
  *p = std::max(before, value);
  return before;
}
template <typename T>
  requires std::is_integral_v<T>
T atomicMin(T* p, std::type_identity_t<T> value) {
  const T before = *p;
  *p = std::min(before, value);
  return before;
}
inline void __threadfence() {}
inline void __threadfence_block() {}
