// float16, bfloat16 and fp8 (e4m3, e5m2) as CUDA's headers name them, rounded as the hardware rounds: to
// nearest, ties to even, subnormals kept. Overflow goes to infinity in float16 and bfloat16; in fp8 to the
// largest finite value with
// __NV_SATFINITE, and with __NV_NOSAT to NaN in e4m3 and infinity in e5m2. NaN becomes 0x7fff, and 0x7f in
// fp8, whatever its sign and payload.
#pragma once

#include <bit>
#include <cstdint>

#include "test/emulation/types.h"

namespace ltrp::emulation {

// The nearest value, as bits, of a format with `mantissa` bits of fraction and `exponent` bits of exponent.
uint16_t round_to_half(float value);
uint16_t round_to_bfloat16(float value);
float half_to_float(uint16_t bits);
// `e5m2` picks the format; `saturate` what becomes of what is too large.
uint8_t round_to_fp8(float value, bool e5m2, bool saturate);
float fp8_to_float(uint8_t bits, bool e5m2);

}  // namespace ltrp::emulation

// ---- float16
// ---------------------------------------------------------------------------------------------------------
struct __half_raw {
  unsigned short x;
};
struct __half2_raw {
  unsigned short x, y;
};

struct alignas(2) __half {
  unsigned short bits;

  __half() = default;
  __half(float value) : bits(ltrp::emulation::round_to_half(value)) {}
  __half(__half_raw raw) : bits(raw.x) {}
  operator float() const { return ltrp::emulation::half_to_float(bits); }
  operator __half_raw() const { return {bits}; }
};
using half = __half;

struct alignas(4) __half2 {
  __half x, y;

  __half2() = default;
  __half2(__half a, __half b) : x(a), y(b) {}
  __half2(__half2_raw raw) : x(__half_raw{raw.x}), y(__half_raw{raw.y}) {}
};
using half2 = __half2;

inline __half __float2half(float value) { return __half(value); }
inline __half __float2half_rn(float value) { return __half(value); }
inline float __half2float(__half value) { return value; }
inline __half2 __floats2half2_rn(float a, float b) { return {__half(a), __half(b)}; }
inline __half2 __float22half2_rn(float2 v) { return {__half(v.x), __half(v.y)}; }
inline __half2 __float2half2_rn(float a) { return {__half(a), __half(a)}; }
inline float2 __half22float2(__half2 v) { return {v.x, v.y}; }
inline __half2 __halves2half2(__half a, __half b) { return {a, b}; }
inline __half __low2half(__half2 v) { return v.x; }
inline __half __high2half(__half2 v) { return v.y; }
inline float __low2float(__half2 v) { return v.x; }
inline float __high2float(__half2 v) { return v.y; }
inline unsigned short __half_as_ushort(__half value) { return value.bits; }
inline short __half_as_short(__half value) { return static_cast<short>(value.bits); }
inline __half __ushort_as_half(unsigned short bits) { return __half_raw{bits}; }

// ---- bfloat16
// --------------------------------------------------------------------------------------------------------
struct alignas(2) __nv_bfloat16 {
  unsigned short bits;

  __nv_bfloat16() = default;
  __nv_bfloat16(float value) : bits(ltrp::emulation::round_to_bfloat16(value)) {}
  operator float() const { return std::bit_cast<float>(static_cast<uint32_t>(bits) << 16); }
};

struct alignas(4) __nv_bfloat162 {
  __nv_bfloat16 x, y;

  __nv_bfloat162() = default;
  __nv_bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) : x(a), y(b) {}
};

inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 value) { return value.bits; }
inline short __bfloat16_as_short(__nv_bfloat16 value) { return static_cast<short>(value.bits); }
inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) { return std::bit_cast<__nv_bfloat16>(bits); }
inline __nv_bfloat16 __float2bfloat16(float value) { return __nv_bfloat16(value); }
inline __nv_bfloat16 __float2bfloat16_rn(float value) { return __nv_bfloat16(value); }
inline float __bfloat162float(__nv_bfloat16 value) { return value; }
inline __nv_bfloat162 __floats2bfloat162_rn(float a, float b) { return {__nv_bfloat16(a), __nv_bfloat16(b)}; }
inline __nv_bfloat162 __float22bfloat162_rn(float2 v) { return __floats2bfloat162_rn(v.x, v.y); }
inline __nv_bfloat162 __float2bfloat162_rn(float a) { return __floats2bfloat162_rn(a, a); }
inline float2 __bfloat1622float2(__nv_bfloat162 v) { return {v.x, v.y}; }
inline __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 a, __nv_bfloat16 b) { return {a, b}; }
inline __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
inline __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }
inline float __low2float(__nv_bfloat162 v) { return v.x; }
inline float __high2float(__nv_bfloat162 v) { return v.y; }

// ---- fp8
// -------------------------------------------------------------------------------------------------------------
using __nv_fp8_storage_t = unsigned char;
using __nv_fp8x2_storage_t = unsigned short;
using __nv_fp8x4_storage_t = unsigned;
enum __nv_saturation_t { __NV_NOSAT, __NV_SATFINITE };
enum __nv_fp8_interpretation_t { __NV_E4M3, __NV_E5M2 };

inline __nv_fp8_storage_t __nv_cvt_float_to_fp8(float value, __nv_saturation_t saturation,
                                                __nv_fp8_interpretation_t format) {
  return ltrp::emulation::round_to_fp8(value, format == __NV_E5M2, saturation == __NV_SATFINITE);
}
inline __nv_fp8x2_storage_t __nv_cvt_float2_to_fp8x2(float2 v, __nv_saturation_t saturation,
                                                     __nv_fp8_interpretation_t format) {
  return static_cast<__nv_fp8x2_storage_t>(__nv_cvt_float_to_fp8(v.x, saturation, format) |
                                           __nv_cvt_float_to_fp8(v.y, saturation, format) << 8);
}
// Every fp8 value is a float16, so this rounds nothing.
inline __half_raw __nv_cvt_fp8_to_halfraw(__nv_fp8_storage_t bits, __nv_fp8_interpretation_t format) {
  return __half(ltrp::emulation::fp8_to_float(bits, format == __NV_E5M2));
}
inline __half2_raw __nv_cvt_fp8x2_to_halfraw2(__nv_fp8x2_storage_t bits, __nv_fp8_interpretation_t format) {
  return {__nv_cvt_fp8_to_halfraw(static_cast<unsigned char>(bits & 0xff), format).x,
          __nv_cvt_fp8_to_halfraw(static_cast<unsigned char>(bits >> 8), format).x};
}

struct alignas(1) __nv_fp8_e4m3 {
  __nv_fp8_storage_t __x;

  __nv_fp8_e4m3() = default;
  explicit __nv_fp8_e4m3(float value) : __x(__nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E4M3)) {}
  explicit operator float() const { return ltrp::emulation::fp8_to_float(__x, false); }
};

struct alignas(1) __nv_fp8_e5m2 {
  __nv_fp8_storage_t __x;

  __nv_fp8_e5m2() = default;
  explicit __nv_fp8_e5m2(float value) : __x(__nv_cvt_float_to_fp8(value, __NV_SATFINITE, __NV_E5M2)) {}
  explicit operator float() const { return ltrp::emulation::fp8_to_float(__x, true); }
};
