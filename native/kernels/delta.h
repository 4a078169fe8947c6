// Operators of the delta form (docs/method.md, 2): what is between the matrix products, fused. A
// variant is the anchor's forward pass with one token removed; only its difference d from the anchor is
// carried.
//
// Rows of variants follow one another: row id = v * slots + s for slot s of variant v. Variant v belongs to
// image[v] and its token t differs from row image[v] * T + t of the anchor's arrays. All tensors are
// contiguous.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/forward.h"

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
