// Matrix products by every road that leads to them: MKL, MKL and oneDNN with prepacked weights, and ours.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace ltrp::bench {

// Ours is a contender for the peak, too: a fraction of a peak that we ourselves beat would flatter us.
inline constexpr const char* kOurs = "ltrp";

// One way of multiplying x [M, K] by the transpose of a fixed weight [N, K].
struct LibraryLinear {
  std::string library;                  // "mkl", "mkl-packed", "onednn-packed", kOurs
  std::function<at::Tensor()> product;  // [M, N], float32 for bytes, otherwise the operands' type
  at::Tensor expected;                  // [m, N] float64: the first m rows' exact result for these operands
  double tolerance = 0;                 // largest admissible |product - expected| / max |expected|
};

// Every road to the product of random operands of this shape, in float64, float32, float16, bfloat16 or int8;
// none where the CPU or this LibTorch lacks it. Error(kInvalidArgument) for another name.
std::vector<LibraryLinear> library_linears(const std::string& precision, int64_t rows, int64_t inputs,
                                           int64_t outputs);

}  // namespace ltrp::bench
