// Vectors of one instruction set. The .cpp files of this folder are compiled once per level, each time with
// other compiler flags; everything here lives in a namespace of that level and has internal linkage, and
// nothing of the standard library's inline code is used, so that the linker cannot hand AVX-512 code to a
// machine without it.
#pragma once

#include <cstdint>
#include <utility>

#include "kernels/cpu/simd/table.h"

#if LTRP_SIMD_BYTES > 16
#include <immintrin.h>
#endif

#if !defined(LTRP_SIMD_LEVEL) || !defined(LTRP_SIMD_BYTES)
#error "compiled through the ltrp_simd_* targets only"
#endif

namespace ltrp::simd::LTRP_SIMD_LEVEL {
namespace {

constexpr int kWidth = LTRP_SIMD_BYTES / 4;  // floats in a vector

typedef float Floats __attribute__((vector_size(kWidth * 4)));
typedef int32_t Ints __attribute__((vector_size(kWidth * 4)));
typedef uint32_t Words __attribute__((vector_size(kWidth * 4)));
typedef uint16_t Halves __attribute__((vector_size(kWidth * 2)));
typedef int16_t Shorts __attribute__((vector_size(kWidth * 4)));
typedef uint8_t Bytes __attribute__((vector_size(kWidth)));

inline Floats load(const float* p) {
  Floats x;
  __builtin_memcpy(&x, p, sizeof x);
  return x;
}
inline void store(float* p, Floats x) { __builtin_memcpy(p, &x, sizeof x); }

// The first `count` < kWidth values; the others are zero.
inline Floats load_some(const float* p, int64_t count) {
  Floats x = {};
  __builtin_memcpy(&x, p, static_cast<unsigned long>(count) * 4);
  return x;
}
inline void store_some(float* p, Floats x, int64_t count) {
  __builtin_memcpy(p, &x, static_cast<unsigned long>(count) * 4);
}

inline Floats fill(float value) { return value - Floats{}; }

// Calls body(offset, count) for whole vectors and once for what is left; `count` is a constant kWidth in the
// loop, so that its branches vanish.
template <typename Body>
inline void for_vectors(int64_t width, Body body) {
  int64_t i = 0;
  for (; i + kWidth <= width; i += kWidth) body(i, kWidth);
  if (i < width) body(i, width - i);
}

// The first `count` lanes, zero in the others.
inline Floats first_lanes(Floats x, int64_t count) {
  for (int64_t lane = count; lane < kWidth; ++lane) x[lane] = 0;
  return x;
}

// ---- what GCC's generic vectors are poor at: conversions between widths, maxima; vectors wider than the
// ---- processor's, which tests compile, have to do with them
// ---------------------------------------

// The low halves or bytes of 32-bit words, all within range; and back.
#if LTRP_SIMD_BYTES == 64 && defined(__AVX512BW__)
inline Halves low_halves(Words x) { return (Halves)_mm512_maskz_cvtepi32_epi16(0xffff, (__m512i)x); }
inline Bytes low_bytes(Words x) { return (Bytes)_mm512_maskz_cvtepi32_epi8(0xffff, (__m512i)x); }
inline Words words_of(Halves x) { return (Words)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)x); }
// With a mask of all lanes: the plain intrinsics start from an undefined vector, which GCC 12 warns of.
inline Floats larger(Floats a, Floats b) {
  return (Floats)_mm512_mask_max_ps((__m512)a, 0xffff, (__m512)a, (__m512)b);
}
inline Floats smaller(Floats a, Floats b) {
  return (Floats)_mm512_mask_min_ps((__m512)a, 0xffff, (__m512)a, (__m512)b);
}
#elif LTRP_SIMD_BYTES == 32
inline Halves low_halves(Words x) {
  const __m256i packed = _mm256_packus_epi32((__m256i)x, (__m256i)x);  // within each half
  return (Halves)_mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08));
}
inline Bytes low_bytes(Words x) {
  const __m128i halves = (__m128i)low_halves(x);
  const int64_t packed = _mm_cvtsi128_si64(_mm_packus_epi16(halves, halves));
  Bytes result;
  __builtin_memcpy(&result, &packed, sizeof result);
  return result;
}
inline Words words_of(Halves x) { return (Words)_mm256_cvtepu16_epi32((__m128i)x); }
inline Floats larger(Floats a, Floats b) { return (Floats)_mm256_max_ps((__m256)a, (__m256)b); }
inline Floats smaller(Floats a, Floats b) { return (Floats)_mm256_min_ps((__m256)a, (__m256)b); }
#else
inline Halves low_halves(Words x) { return __builtin_convertvector(x, Halves); }
inline Bytes low_bytes(Words x) { return __builtin_convertvector(x, Bytes); }
inline Words words_of(Halves x) { return __builtin_convertvector(x, Words); }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }
inline Floats smaller(Floats a, Floats b) { return a < b ? a : b; }
#endif

// Of 16-bit integers, two in each word: the exact sum of both products.
inline Ints sums_of_pairs(Words x, Words w) {
#if LTRP_SIMD_BYTES == 64 && defined(__AVX512BW__)
  return (Ints)_mm512_madd_epi16((__m512i)x, (__m512i)w);
#elif LTRP_SIMD_BYTES == 32
  return (Ints)_mm256_madd_epi16((__m256i)x, (__m256i)w);
#else
  const Ints a = (Ints)x, b = (Ints)w;
  return (a << 16 >> 16) * (b << 16 >> 16) + (a >> 16) * (b >> 16);
#endif
}

// bfloat16 is the upper half of a float32.
inline Floats widen(Halves x) {
  const Words wide = words_of(x) << 16;
  Floats result;
  __builtin_memcpy(&result, &wide, sizeof result);
  return result;
}
inline Floats load_bfloat16(const uint16_t* p) {
  Halves x;
  __builtin_memcpy(&x, p, sizeof x);
  return widen(x);
}
inline Floats load_some_bfloat16(const uint16_t* p, int64_t count) {
  Halves x = {};
  __builtin_memcpy(&x, p, static_cast<unsigned long>(count) * 2);
  return widen(x);
}
// Round to nearest, ties to even, in the low half of a word. Finite values only.
inline Words rounded_words(Floats x) {
  Words bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
}
inline Halves narrow(Floats x) { return low_halves(rounded_words(x)); }

// A float32 whose last mantissa bit counts ones: adding it rounds to nearest even.
constexpr float kRounder = 12582912.0F;  // 1.5 * 2^23

inline Ints bits_of(Floats x) {
  Ints bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}
inline Floats float_of(Ints bits) {
  Floats x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}

// x in [-zero, 255 - zero], rounded and shifted by `zero`.
template <int zero>
inline Bytes to_bytes(Floats x) {
  return low_bytes((Words)(bits_of(x + kRounder) - (0x4B400000 - zero)));
}

inline Floats magnitude(Floats x) { return float_of(bits_of(x) & 0x7fffffff); }

// Part of a row: `count` values, all kWidth of them nearly always.
inline Floats load_part(const float* p, int64_t count) {
  return count == kWidth ? load(p) : load_some(p, count);
}
inline void store_part(float* p, Floats x, int64_t count) {
  if (count == kWidth) {
    store(p, x);
  } else {
    store_some(p, x, count);
  }
}
inline Floats load_part_bfloat16(const uint16_t* p, int64_t count) {
  return count == kWidth ? load_bfloat16(p) : load_some_bfloat16(p, count);
}

// One row of a matrix product, either type; `offset` in values.
struct ProductRow {
  const uint16_t* bfloat16 = nullptr;  // at most one of the two
  const float* float32 = nullptr;
  float scale = 1;

  bool any() const { return bfloat16 != nullptr || float32 != nullptr; }
  Floats part(int64_t offset, int64_t count) const {
    return scale * (bfloat16 != nullptr ? load_part_bfloat16(bfloat16 + offset, count)
                                        : load_part(float32 + offset, count));
  }
};

inline ProductRow row_of(const Product& product, int64_t row, int64_t width) {
  ProductRow result;
  if (product.values == nullptr) return result;
  if (product.encoding == Encoding::kFloat32) {
    result.float32 = static_cast<const float*>(product.values) + row * width;
  } else {
    result.bfloat16 = static_cast<const uint16_t*>(product.values) + row * width;
  }
  if (product.scale != nullptr) result.scale = product.scale[row];
  return result;
}

using Lanes = std::make_integer_sequence<int, kWidth>;

// Lane i gets lane i ^ kStep.
template <int kStep, int... kLane>
inline Floats exchanged(Floats x, std::integer_sequence<int, kLane...>) {
  return __builtin_shufflevector(x, x, (kLane ^ kStep)...);
}

// Reductions by halves: log2(kWidth) shuffles.
template <int kStep, typename Combine>
inline float fold(Floats x, Combine combine) {
  x = combine(x, exchanged<kStep>(x, Lanes()));
  if constexpr (kStep == 1) {
    return x[0];
  } else {
    return fold<kStep / 2>(x, combine);
  }
}
inline float sum_of(Floats x) {
  return fold<kWidth / 2>(x, [](Floats a, Floats b) { return a + b; });
}
inline float largest_of(Floats x) {
  return fold<kWidth / 2>(x, [](Floats a, Floats b) { return larger(a, b); });
}

// e^x, relative error below 1e-7 for x >= -87; smaller x give e^-87. Range reduction by ln 2 in two pieces,
// then a polynomial of degree 6 (our fit, relative error 3e-9 in exact arithmetic). NaN stays NaN.
inline Floats exponential(Floats x) {
  // Of a number and NaN, larger() and smaller() yield what comes second.
  x = smaller(fill(88.0F), larger(fill(-87.0F), x));
  const Floats shifted = x * 1.44269504F + kRounder;
  const Floats n = shifted - kRounder;
  const Floats r = x - n * 0.693359375F + n * 2.12194440e-4F;
  Floats p = fill(0.0013814608F);
  p = p * r + 0.0083687119F;
  p = p * r + 0.0416683890F;
  p = p * r + 0.1666652113F;
  p = p * r + 0.4999999404F;
  p = p * (r * r) + r + 1.0F;
  return float_of(bits_of(p) + (bits_of(shifted) << 23));
}

// The error function, absolute error below 3e-7 and smooth: z P(z^2) / Q(z^2), both of degree 5 (our fit on
// |z| < 3.92, where erf is one in float32).
inline Floats error_function(Floats z) {
  z = smaller(larger(z, fill(-3.92F)), fill(3.92F));
  const Floats y = z * z;
  Floats p = fill(2.025879212e-6F);
  p = p * y + 2.846718708e-4F;
  p = p * y + 3.807768226e-3F;
  p = p * y + 5.287420377e-2F;
  p = p * y + 1.915421486e-1F;
  p = p * y + 1.128379107F;
  Floats q = fill(3.783067223e-5F);
  q = q * y + 1.170617412e-3F;
  q = q * y + 1.505430508e-2F;
  q = q * y + 1.145561039e-1F;
  q = q * y + 5.030825138e-1F;
  q = q * y + 1.0F;
  return z * p / q;
}

// Exact (erf) GELU.
inline Floats gelu(Floats x) { return 0.5F * x * (1.0F + error_function(x * 0.707106781F)); }

// Of two rows kStep apart: lanes without bit kStep stay, the others change places across the diagonal.
template <int kStep, int... kLane>
inline void exchange_across(Floats& a, Floats& b, std::integer_sequence<int, kLane...>) {
  const Floats low =
      __builtin_shufflevector(a, b, ((kLane & kStep) == 0 ? kLane : kWidth + kLane - kStep)...);
  b = __builtin_shufflevector(a, b, ((kLane & kStep) == 0 ? kLane + kStep : kWidth + kLane)...);
  a = low;
}

// Transposes kWidth vectors of kWidth values in place: log2(kWidth) rounds of exchanges.
template <int kStep = kWidth / 2>
inline void transpose(Floats* rows) {
#pragma GCC unroll 16
  for (int i = 0; i < kWidth; ++i) {
    if ((i & kStep) == 0) exchange_across<kStep>(rows[i], rows[i + kStep], Lanes());
  }
  if constexpr (kStep > 1) transpose<kStep / 2>(rows);
}

}  // namespace
}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
