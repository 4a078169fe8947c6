// Matrix products by every road that leads to them: MKL, MKL and oneDNN with prepacked weights, and ours.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace ltrp::bench {

enum class Product { kFloat64, kFloat32, kFloat16, kBFloat16, kInt8 };
const char* name_of(Product product);

// One way of multiplying x [M, K] by the transpose of a fixed weight [N, K].
struct LibraryLinear {
  std::string library;                  // "mkl", "mkl-packed", "onednn-packed", "ltrp"
  std::function<at::Tensor()> product;  // [M, N], float32 for bytes, otherwise the operands' type
  at::Tensor expected;                  // [m, N] float64: the first m rows' exact result for these operands
  double tolerance = 0;                 // largest admissible |product - expected| / max |expected|
};

// Every road to the product of random operands of this shape; none where the CPU or this LibTorch lacks it.
std::vector<LibraryLinear> library_linears(Product product, int64_t rows, int64_t inputs, int64_t outputs);

}  // namespace ltrp::bench
