// Operators of a forward pass in low precision: everything between the matrix products, fused. A product
// lacks its row scales and the layer's bias when it comes here (kernels/linear.h); both are put in by what
// reads it. All tensors are contiguous.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/linear.h"

namespace ltrp {

// Patches of images [n, 3, H, W] float32, values ordered (channel, row, column): [n * L, 3 * p * p], or
// [n * V, 3 * p * p] for `ids` [n, V] int64.
RoundedRows patch_rows(const at::Tensor& images, int64_t patch_size, const at::Tensor& ids,
                       Precision precision);

// x [R, W] float32: adds update + update_bias [W] where `update` has values, then returns LN(x) = weight *
// (x - mean) / sqrt(variance + eps) + bias.
RoundedRows add_layer_norm(const at::Tensor& x, const ProductRows& update, const at::Tensor& update_bias,
                           const at::Tensor& weight, const at::Tensor& bias, double eps, Precision precision);

// gelu(u + bias), exact (erf): u [R, W], bias [W].
RoundedRows gelu_rows(const ProductRows& u, const at::Tensor& bias, Precision precision);

// qkv + bias is q, k and v side by side: qkv [n * T, 3E], bias [3E] float32. Returns the concatenated heads
// softmax(q k^T / sqrt(E / heads)) v in float32: [n * T, E], or [n * Q, E] for `queries` [n, Q] int32.
at::Tensor product_attention(const ProductRows& qkv, const at::Tensor& bias, int64_t tokens, int64_t heads,
                             const at::Tensor& queries = {});

}  // namespace ltrp
