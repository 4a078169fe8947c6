// Products of rows whose rounding is the same on every processor with fused multiply-adds.
#pragma once

#include <ATen/core/Tensor.h>

namespace ltrp {

// left [rows, K], right [K, columns] -> [rows, columns]. Float32 on a CPU: every sum is made of chains of 192
// fused multiply-adds, one after the other, which are added up in order. That is how MKL's product for AVX2
// rounds, and with it the authors' code: where distances are differences of nearly equal numbers, this
// decides which of two patches is nearer. Anything else: LibTorch's product.
at::Tensor chained_product(const at::Tensor& left, const at::Tensor& right);

}  // namespace ltrp
