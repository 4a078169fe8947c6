#include "kernels/cpu/simd/chains.h"

#include "kernels/cpu/simd/vector.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {
namespace {

constexpr int64_t kChain = 192;
constexpr int kRows = 8;  // sums that do not wait for each other

// a * b + c, rounded once; by intrinsics, because without optimisation the compiler contracts nothing.
inline Floats fused(Floats a, Floats b, Floats c) {
#if LTRP_SIMD_BYTES == 64 && defined(__AVX512F__)
  return (Floats)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif LTRP_SIMD_BYTES == 32 && defined(__FMA__)
  return (Floats)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__FP_FAST_FMAF)
  for (int i = 0; i < kWidth; ++i) c[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return c;
#else
  // The product is exact in double, and the sum has 29 more bits: rounding twice differs in one of 2^28
  // cases.
  for (int i = 0; i < kWidth; ++i)
    c[i] =
        static_cast<float>(static_cast<double>(a[i]) * static_cast<double>(b[i]) + static_cast<double>(c[i]));
  return c;
#endif
}

// Rows of the left factor, one vector of columns; `count` of the columns exist.
template <int kCount>
void rows_of_chains(const ChainedProduct& args, int64_t row, int64_t column, int64_t count) {
  Floats total[kCount];
  for (int64_t first = 0; first < args.terms || first == 0; first += kChain) {
    const int64_t last = first + kChain < args.terms ? first + kChain : args.terms;
    Floats chain[kCount] = {};
    for (int64_t k = first; k < last; ++k) {
      const float* right = args.right + k * args.columns + column;
      const Floats b = count < kWidth ? load_some(right, count) : load(right);
      for (int r = 0; r < kCount; ++r)
        chain[r] = fused(fill(args.left[(row + r) * args.terms + k]), b, chain[r]);
    }
    for (int r = 0; r < kCount; ++r) total[r] = first == 0 ? chain[r] : total[r] + chain[r];
  }
  for (int r = 0; r < kCount; ++r) {
    float* y = args.y + (row + r) * args.columns + column;
    if (count < kWidth)
      store_some(y, total[r], count);
    else
      store(y, total[r]);
  }
}

}  // namespace

void chained_product(const ChainedProduct& args, int64_t begin, int64_t end) {
  for (int64_t column = 0; column < args.columns; column += kWidth) {
    const int64_t left = args.columns - column, count = left < kWidth ? left : kWidth;
    int64_t row = begin;
    for (; row + kRows <= end; row += kRows) rows_of_chains<kRows>(args, row, column, count);
    for (; row < end; ++row) rows_of_chains<1>(args, row, column, count);
  }
}

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
