// Matrix products of our own (kernels/cpu/simd/product.cpp) on tensors: the only way in which weights that
// were packed are multiplied on a CPU, at every level and in every precision.
#pragma once

#include "kernels/backend.h"

namespace ltrp::cpu {

// [N, K] float32, bfloat16 or int8 -> [panels, K / depth, outputs, depth] of the level in use, see
// kernels/cpu/simd/panels.h.
at::Tensor panels_of(const at::Tensor& weight);

// For int8: what every output's sum has too much with activations shifted by one; and the scale. Filled up to
// whole panels.
at::Tensor panel_sums(const at::Tensor& weight);
at::Tensor panel_scale(const at::Tensor& scale);

// weight.values are panels and, for int8, weight.sums the panel_sums; x and the result as in
// Backend::multiply, the result in `into` if it is defined.
at::Tensor multiply_panels(const PackedWeight& weight, const RoundedRows& x, const at::Tensor& into);

// x [..., K] float32 -> x W^T + bias, GELU if asked for, plus residual [..., N] if it is defined.
at::Tensor linear_panels(const at::Tensor& x, const at::Tensor& panels, const at::Tensor& bias, bool gelu,
                         const at::Tensor& residual);

}  // namespace ltrp::cpu
