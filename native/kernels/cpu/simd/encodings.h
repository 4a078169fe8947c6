// How products take their values: of each encoding what lies in a panel, how sums are taken, and what becomes
// of them.
#pragma once

#include "kernels/cpu/simd/product.h"
#include "kernels/cpu/simd/vector.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {
namespace {

constexpr int kPanel = static_cast<int>(kPanelOutputs);
constexpr int kVectors = kPanel / kWidth;  // of a panel

inline Words spread_words(const void* p) {
  uint32_t word;
  __builtin_memcpy(&word, p, sizeof word);
  return word - Words{};
}

inline Halves to_bfloat16(Floats x, [[maybe_unused]] bool native) {
#if defined(LTRP_SIMD_NATIVE_PRODUCTS) && LTRP_SIMD_BYTES == 64
  if (native) {
    Halves result;
    asm("vcvtneps2bf16 %1, %0" : "=v"(result) : "v"(x));
    return result;
  }
#endif
  return narrow(x);
}

// One encoding's values, sums and results, and its multiply-add: y += x * w for `kDepth` inputs a lane.
struct Float32 {
  using Value = float;
  using Result = float;
  using Sums = Floats;
  using Operand = Floats;
  static constexpr int kDepth = 1;
  static Floats spread(const float* x) { return fill(*x); }
  static void multiply_add(Floats& y, Floats x, Floats w) { y += x * w; }
  static Floats result(Floats sum, const MatrixProduct&, int64_t) { return sum; }
};

// As AVX512_BF16 does it: the second input of a pair first, each product added with one rounding (products of
// two bfloat16 are exact, so that a plain addition does). Denormals, which the instruction takes for zero,
// stay.
struct Bfloat16 {
  using Value = uint16_t;
  using Result = uint16_t;
  using Sums = Floats;
  using Operand = Words;
  static constexpr int kDepth = 2;
  static Words spread(const uint16_t* x) { return spread_words(x); }
  static void multiply_add(Floats& y, Words x, Words w) {
    y += (Floats)(x & 0xffff0000) * (Floats)(w & 0xffff0000);
    y += (Floats)(x << 16) * (Floats)(w << 16);
  }
  static Halves result(Floats sum, const MatrixProduct& args, int64_t) {
    return to_bfloat16(sum, args.native_bfloat16);
  }
};

struct Uint8 {
  using Value = uint8_t;
  using Result = uint16_t;
  using Sums = Ints;
  using Operand = Words;
  static constexpr int kDepth = 4;
  static Words spread(const uint8_t* x) { return spread_words(x); }
  static void multiply_add(Ints& y, Words x, Words w) {
    // Of every pair of neighbours the first and the second, as 16-bit integers.
    y += sums_of_pairs(x & 0x00ff00ff, (Words)((Shorts)w << 8 >> 8)) +
         sums_of_pairs(x >> 8 & 0x00ff00ff, (Words)((Shorts)w >> 8));
  }
  static Halves result(Ints sum, const MatrixProduct& args, int64_t output) {
    Ints offset;
    __builtin_memcpy(&offset, args.sums + output, sizeof offset);
    const Ints exact = sum - offset * args.zero_point;
    return to_bfloat16(__builtin_convertvector(exact, Floats) * load(args.scale + output),
                       args.native_bfloat16);
  }
};

#ifdef LTRP_SIMD_NATIVE_PRODUCTS
// The same by one instruction. Written as such, because the compiler copies accumulators about when it is
// given the intrinsics, and because this file is compiled for processors without them as well.
struct NativeUint8 : Uint8 {
  static void multiply_add(Ints& y, Words x, Words w) {
#if LTRP_SIMD_BYTES == 64
    asm("vpdpbusd %2, %1, %0" : "+v"(y) : "v"(x), "v"(w));
#else
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(y) : "x"(x), "x"(w));
#endif
  }
};
#if LTRP_SIMD_BYTES == 64
struct NativeBfloat16 : Bfloat16 {
  static void multiply_add(Floats& y, Words x, Words w) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(y) : "v"(x), "v"(w));
  }
};
#endif
#endif

template <typename T>
__attribute__((noinline, unused)) T* copied(T* to, const T* from, int64_t count) {
  for (int64_t i = 0; i < count; ++i) to[i] = from[i];
  return to;
}

}  // namespace
}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
