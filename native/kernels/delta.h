// Operators of the delta form (method section 2): everything between the matrix products, fused. A variant is
// the anchor's forward pass with one token removed; only its difference d from the anchor is carried.
//
// Rows of variants follow one another: row id = v * slots + s for slot s of variant v. Variant v belongs to
// image[v] and its token t differs from row image[v] * T + t of the anchor's arrays. All tensors are
// contiguous.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/linear.h"

namespace ltrp {

struct VariantSet {
  int64_t variants = 0;  // m
  int64_t tokens = 0;    // T
  at::Tensor image;      // [m] int32
  // Undefined: every token has a row. Otherwise [images, Q] int32 ascending: only those tokens do.
  at::Tensor queries;

  int64_t slots() const { return queries.defined() ? queries.size(1) : tokens; }
  int64_t rows() const { return slots() * variants; }
};

// Rows [begin, end) of the set, or those of `ids` [R] int32 at [begin, end).
struct RowRange {
  int64_t begin = 0;
  int64_t end = 0;
  at::Tensor ids;
  int64_t size() const { return end - begin; }
};

// The anchor's side of a layer norm, per anchor row: (s - mean) / deviation and deviation = sqrt(variance +
// eps).
struct LayerNormAnchor {
  at::Tensor normed;     // [A, W] float32
  at::Tensor deviation;  // [A] float32
};

// LN(x) = weight * (x - mean) / deviation + bias over the last dimension: x [..., W] float32. `anchor`, where
// not null, keeps what differences need.
at::Tensor layer_norm_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                           LayerNormAnchor* anchor = nullptr);

// d [rows, W] float32: adds `update` to the rows of the range where it has values, then returns
// LN(s + d) - LN(s) for them, computed without cancellation.
RoundedRows layer_norm_difference(const VariantSet& set, const RowRange& range, const at::Tensor& d,
                                  const ProductRows& update, const LayerNormAnchor& anchor,
                                  const at::Tensor& weight, Precision precision);

// The same, but only the squared norm of each row's difference: [R] float32.
at::Tensor layer_norm_difference_squares(const VariantSet& set, const RowRange& range, const at::Tensor& d,
                                         const ProductRows& update, const LayerNormAnchor& anchor,
                                         const at::Tensor& weight);

// The rows of each variant, in order, without the smallest ones whose squares [set rows] (overwritten) sum up
// to at most `tolerance` of the variant's; maybe a few more, at least one. unread [m] int32, where defined: a
// token of each that nothing depends on any more and that does not count.
RowRange large_rows(const at::Tensor& squares, const VariantSet& set, const at::Tensor& unread,
                    double tolerance);

// gelu(u + du) - gelu(u), u and gelu_u [A, W] float32.
RoundedRows gelu_difference(const VariantSet& set, const RowRange& range, const ProductRows& du,
                            const at::Tensor& u, const at::Tensor& gelu_u, Precision precision);

// Rows of x [rows, W] float32.
RoundedRows round_rows(const RowRange& range, const at::Tensor& x, Precision precision);

// x [rows, W] float32: adds `update` to the rows of the range.
void add_rows(const RowRange& range, const at::Tensor& x, const ProductRows& update);

// Sums of |x| (or of x^2) over each row: [R] float64.
at::Tensor row_sums(const ProductRows& x, bool squared);

// q, k and v side by side [n * T, 3E] -> by head [n, heads, 3, T, E / heads], as the attention operators read
// them.
// With packed_row [n * T] int32, row t of variant v is row packed_row[v * T + t] of qkv, or zeros where that
// is -1.
at::Tensor split_heads(const at::Tensor& qkv, int64_t tokens, int64_t heads,
                       const at::Tensor& packed_row = {});

// qkv [n, heads, 3, T, E / heads] float32 -> concatenated heads [n, T, E], or [n, Q, E] for `queries` [n, Q]
// int32: softmax(q k^T / sqrt(E / heads)) v.
at::Tensor attention_rows(const at::Tensor& qkv, const at::Tensor& queries = {});

// What attention with q, k, v + dqkv and without the removed token as key yields, minus the anchor's output:
// [set rows, E] float32. qkv by head of the images, anchor_output [A, E]; dqkv by head of the variants,
// bfloat16 or float32, its scale [m * T]. removed [m] int32, token or -1; undefined: none. A removed token's
// own attention output counts as zero.
at::Tensor attention_difference(const VariantSet& set, const at::Tensor& qkv, const ProductRows& dqkv,
                                const at::Tensor& removed, const at::Tensor& anchor_output);

// The same for dqkv = 0: only the key is gone, of every variant one. o' - o = p (o - v) / (1 - p) with the
// anchor's probability p and value v of the removed key.
at::Tensor removal_difference(const VariantSet& set, const at::Tensor& qkv, const at::Tensor& removed,
                              const at::Tensor& anchor_output);

}  // namespace ltrp
