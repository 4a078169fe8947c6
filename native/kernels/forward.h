// Operators of a forward pass: everything between the matrix products, fused. A product in low precision
// lacks its row scales and the layer's bias when it comes here (kernels/linear.h); both are put in by what
// reads it. All tensors are contiguous.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/linear.h"

namespace ltrp {

// Rows [begin, end), or those of `ids` [R] int32 at [begin, end).
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
  at::Tensor ids;
  int64_t size() const { return end - begin; }
};

// Rows of x [rows, W] float32.
RoundedRows round_rows(const RowRange& range, const at::Tensor& x, Precision precision);

// x [rows, W] float32: adds `update` to the rows of the range.
void add_rows(const RowRange& range, const at::Tensor& x, const ProductRows& update);

// Sums of |x| (or of x^2) over each row: [R] float64.
at::Tensor row_sums(const ProductRows& x, bool squared);

// What a layer norm leaves behind for differences from it (delta.h), per row: (s - mean) / deviation and
// deviation = sqrt(variance + eps).
struct LayerNormAnchor {
  at::Tensor normed;     // [R, W] float32
  at::Tensor deviation;  // [R] float32
};

// LN(x) = weight * (x - mean) / deviation + bias over the last dimension: x [..., W] float32. `anchor`, where
// not null, keeps what differences need.
at::Tensor layer_norm_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                           LayerNormAnchor* anchor = nullptr);

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

// q, k and v side by side [n * T, 3E] -> by head [n, heads, 3, T, E / heads], as the attention operators read
// them.
// With packed_row [n * T] int32, row t of variant v is row packed_row[v * T + t] of qkv, or zeros where that
// is -1.
at::Tensor split_heads(const at::Tensor& qkv, int64_t tokens, int64_t heads,
                       const at::Tensor& packed_row = {});

// qkv [n, heads, 3, T, E / heads] float32 -> concatenated heads [n, T, E], or [n, Q, E] for `queries` [n, Q]
// int32: softmax(q k^T / sqrt(E / heads)) v. `removed` [n] int32: a token of each that is no key, and whose
// own row is zero.
at::Tensor attention_rows(const at::Tensor& qkv, const at::Tensor& queries = {},
                          const at::Tensor& removed = {});

// qkv + bias is q, k and v side by side: qkv [n * T, 3E], bias [3E] float32. Returns the concatenated heads
// softmax(q k^T / sqrt(E / heads)) v in float32: [n * T, E], or [n * Q, E] for `queries` [n, Q] int32.
at::Tensor product_attention(const ProductRows& qkv, const at::Tensor& bias, int64_t tokens, int64_t heads,
                             const at::Tensor& queries = {});

}  // namespace ltrp
