// Matrix products of our own (kernels/cpu/simd/product.cpp), where they are faster than the library's:
// processors with 512-bit vectors and, in bfloat16 and int8, without AMX.
#pragma once

#include "kernels/backend.h"

namespace ltrp::cpu {

// For K inputs and the vector level in use.
bool multiplies_panels(Precision precision, int64_t inputs);

// [N, K] float32, bfloat16 or int8 -> [panels, K / depth, 64, depth], see kernels/cpu/simd/panels.h.
at::Tensor panels_of(const at::Tensor& weight);
inline bool is_panels(const at::Tensor& weight) {
  return weight.layout() == at::kStrided && weight.dim() == 4;
}

// For int8: what every output's sum has too much with activations shifted by one; and the scale, filled up
// to whole panels. [panels * 64]
at::Tensor panel_sums(const at::Tensor& weight);
at::Tensor panel_scale(const at::Tensor& scale);

// weight.values are panels and, for int8, weight.sums the panel_sums; x and the result as in
// Backend::multiply.
at::Tensor multiply_panels(const PackedWeight& weight, const RoundedRows& x);

// x [..., K] float32 -> x W^T + bias, GELU if asked for, plus residual [..., N] if it is defined.
at::Tensor linear_panels(const at::Tensor& x, const at::Tensor& panels, const at::Tensor& bias, bool gelu,
                         const at::Tensor& residual);

}  // namespace ltrp::cpu
