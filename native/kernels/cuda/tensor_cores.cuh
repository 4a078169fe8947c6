// The tensor cores' product of bfloat16 matrices, and float32 values as pairs of them.
#pragma once

#include "kernels/cuda/rounding.cuh"

namespace ltrp::cuda {

// Two float32 values as bfloat16 pairs: x = high + low to 16 bits, where one bfloat16 has 8.
struct SplitPair {
  uint32_t high, low;
};

__device__ __forceinline__ SplitPair split_pair(float x, float y) {
  SplitPair result;
  result.high = bfloat16_pair(x, y);
  result.low = bfloat16_pair(x - low_bfloat16(result.high), y - high_bfloat16(result.high));
  return result;
}

// c += a b by a warp: a [16, 16] and b [16, 8] in bfloat16, c [16, 8] in float32. Lane 4 g + t (g < 8, t < 4)
// has, two values in a word:
//   a[0]: a[g][2t, 2t + 1]        a[1]: a[g + 8][2t, 2t + 1]
//   a[2]: a[g][2t + 8, 2t + 9]    a[3]: a[g + 8][2t + 8, 2t + 9]
//   b[0]: b[2t, 2t + 1][g]        b[1]: b[2t + 8, 2t + 9][g]
//   c[0], c[1]: c[g][2t, 2t + 1]  c[2], c[3]: c[g + 8][2t, 2t + 1]
// (PTX ISA, matrix fragments for mma.m16n8k16). The emulation gathers by shuffles what the hardware has
// wired, and adds up in float32; the hardware's own order of additions is not documented.
__device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
#if defined(LTRP_EMULATE_CUDA)
  const int lane = static_cast<int>(threadIdx.x) % kLanes, g = lane / 4, t = lane % 4;
  const auto dot = [](uint32_t x, uint32_t y, float sum) {
    return fmaf(high_bfloat16(x), high_bfloat16(y), fmaf(low_bfloat16(x), low_bfloat16(y), sum));
  };
  const auto both = [](uint32_t low, uint32_t high) { return uint64_t{high} << 32 | low; };
  const auto word = [](uint64_t pair, int i) { return static_cast<uint32_t>(pair >> (32 * i)); };
  for (int s = 0; s < 4; ++s) {  // quarter s of each row and column
    const uint64_t left = __shfl_sync(kAllLanes, both(a[0], a[1]), 4 * g + s),
                   right = __shfl_sync(kAllLanes, both(a[2], a[3]), 4 * g + s);
    for (int n = 0; n < 2; ++n) {
      const uint64_t column = __shfl_sync(kAllLanes, both(b[0], b[1]), 4 * (2 * t + n) + s);
      for (int part = 0; part < 2; ++part) {
        float& sum = c[2 * part + n];
        sum = dot(word(right, part), word(column, 1), dot(word(left, part), word(column, 0), sum));
      }
    }
  }
#else
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};\n"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
#endif
}

// c += (a_high + a_low) (b_high + b_low) without the product of the low parts, which is below what the sum
// keeps.
__device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a_high)[4],
                                             const uint32_t (&a_low)[4], const uint32_t (&b_high)[2],
                                             const uint32_t (&b_low)[2]) {
  multiply_add(c, a_low, b_high);
  multiply_add(c, a_high, b_low);
  multiply_add(c, a_high, b_high);
}

}  // namespace ltrp::cuda
