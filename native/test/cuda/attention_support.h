// For the tests of the CUDA attention kernels: operands by head, attention in float64, what float32 may do.
#pragma once

#include "test/cuda/kernel_support.h"

namespace ltrp::test {

struct HeadsShape {
  int64_t images, variants, tokens, heads, dim, queries;
};

// Every head size that has a kernel of its own, those that borrow a larger one's, tiles of keys and of
// queries that are full, nearly empty and missing.
inline const std::vector<HeadsShape>& heads_shapes() {
  static const std::vector<HeadsShape> shapes{
      {1, 1, 1, 1, 1, 0},    {1, 1, 2, 1, 5, 1},    {1, 2, 3, 2, 16, 0},   {3, 5, 7, 3, 20, 0},
      {2, 4, 15, 2, 32, 4},  {1, 3, 33, 2, 8, 0},   {2, 3, 40, 1, 64, 7},  {1, 2, 33, 2, 80, 13},
      {2, 2, 49, 3, 1, 0},   {1, 2, 65, 1, 12, 1},  {1, 1, 130, 2, 16, 0}, {1, 2, 20, 1, 100, 0},
      {1, 1, 37, 1, 128, 0}, {1, 2, 19, 1, 160, 5}, {1, 1, 9, 1, 256, 0},  {1, 2, 133, 1, 32, 129}};
  return shapes;
}

// q, k and v side by side [n, T, 3E], as the models project them -> by head, without split_heads().
inline at::Tensor by_head(const at::Tensor& qkv, int64_t heads) {
  const int64_t n = qkv.size(0), tokens = qkv.size(1), dim = qkv.size(2) / (3 * heads);
  return qkv.view({n, tokens, 3, heads, dim}).permute({0, 3, 2, 1, 4}).contiguous();
}

// Attention of [n, heads, 3, T, D] in its own type without key removed[n] (-1: with all) -> [n, T, heads *
// D]; the removed token's own output is zero. With `fused`, by LibTorch's own operator.
inline at::Tensor attention(const at::Tensor& qkv, const at::Tensor& removed, bool fused = false) {
  const int64_t n = qkv.size(0), heads = qkv.size(1), tokens = qkv.size(3), dim = qkv.size(4);
  const at::Tensor gone = at::arange(tokens, at::kLong).eq(removed.to(at::kLong).unsqueeze(1));  // [n, T]
  const at::Tensor mask =
      at::zeros({n, 1, 1, tokens}, qkv.scalar_type()).masked_fill(gone.view({n, 1, 1, tokens}), -HUGE_VAL);
  at::Tensor out;
  if (fused) {
    out = at::scaled_dot_product_attention(qkv.select(2, 0), qkv.select(2, 1), qkv.select(2, 2),
                                           mask.expand({n, 1, tokens, tokens}));
  } else {
    const at::Tensor logits =
        qkv.select(2, 0).matmul(qkv.select(2, 1).transpose(-1, -2)) / std::sqrt(static_cast<double>(dim));
    out = (logits + mask).softmax(-1).matmul(qkv.select(2, 2));
  }
  return out.nan_to_num(0)
      .transpose(1, 2)
      .reshape({n, tokens, heads * dim})
      .masked_fill(gone.unsqueeze(2), 0);
}

// Rows of the set out of [m, T, E].
inline at::Tensor set_rows(const VariantSet& set, const at::Tensor& x) {
  const at::Tensor tokens = tokens_of_rows(set);
  return x.gather(1, tokens.unsqueeze(2).expand({-1, -1, x.size(2)})).reshape({-1, x.size(2)});
}

// What float32 may do to outputs of `values`: the relative error of a probability is a few units in the last
// place of its logit (a sum of `dim` products) and of the sum of probabilities.
inline double tolerance_of(const at::Tensor& qkv) {
  const double dim = static_cast<double>(qkv.size(4));
  const double logit =
      (doubles(qkv).select(2, 0).norm(2, -1).max() * doubles(qkv).select(2, 1).norm(2, -1).max())
          .item<double>() /
      std::sqrt(dim);
  return kUlp * (16 + 4 * logit) * doubles(qkv).select(2, 2).abs().max().item<double>() + 1e-43;
}

inline double worst(const at::Tensor& got, const at::Tensor& want) {
  REQUIRE(got.sizes() == want.sizes());
  return (doubles(got) - want).abs().nan_to_num(1e300).max().item<double>();
}

// Removed tokens: some variants lack none, unless all must lack one.
inline at::Tensor removed_tokens(const VariantSet& set, bool all, uint64_t seed) {
  at::Tensor removed = random_ids(set.tokens, {set.variants}, seed);
  if (!all) removed.masked_fill_(at::arange(set.variants, at::kLong).remainder(3).eq(2), -1);
  return removed;
}

inline at::Tensor removed_none(int64_t n) { return at::full({n}, -1, at::kInt); }

}  // namespace ltrp::test
