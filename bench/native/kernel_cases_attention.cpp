// Attention kernels: of whole rows, of differences, and of a removed key alone.
#include <ATen/ATen.h>

#include "kernel_cases.h"
#include "kernel_operands.h"

namespace ltrp::bench {

namespace {

using shape::kHeadDim;
using shape::kHeads;
using shape::kTokens;
using shape::kVariants;
using shape::kWidth;

struct Operands {
  VariantSet set = one_image();
  at::Tensor removed;        // [V] int32
  at::Tensor qkv;            // [1, heads, 3, T, head_dim]: of the anchor
  at::Tensor anchor_output;  // [T, width]
  at::Tensor key_mask;       // [V, 1, 1, T]: true where the key remains
  at::Tensor removed_rows;   // [V, T, 1]: true where the token is the variant's removed one
};

// Standard normal q, k and v of n sets of tokens, by head.
at::Tensor normal_qkv(int64_t n, uint64_t stream) {
  return split_heads(normal_values({n * kTokens, 3 * kWidth}, stream), kTokens, kHeads);
}

// qkv [n, heads, 3, T, head_dim] -> concatenated heads [n, T, width].
at::Tensor attend(const at::Tensor& qkv, const std::optional<at::Tensor>& mask) {
  return at::scaled_dot_product_attention(qkv.select(2, 0), qkv.select(2, 1), qkv.select(2, 2), mask)
      .transpose(1, 2)
      .reshape({qkv.size(0), kTokens, kWidth});
}

// The variants' attention [V, T, width] minus the anchor's, as rows.
at::Tensor difference(const Operands& given, const at::Tensor& attended) {
  return (attended.masked_fill(given.removed_rows, 0) - per_variant(given.anchor_output)).view({-1, kWidth});
}

Operands operands() {
  Operands result;
  result.qkv = normal_qkv(1, 60);
  result.anchor_output = attention_rows(result.qkv).view({kTokens, kWidth});
  const at::Tensor removed = at::arange(1, kTokens, (kTokens - 1) / kVariants).slice(0, 0, kVariants);
  result.removed = removed.to(at::kInt);
  const at::Tensor gone = at::zeros({kVariants, kTokens}, at::kBool).scatter_(1, removed.unsqueeze(1), true);
  result.key_mask = gone.logical_not().view({kVariants, 1, 1, kTokens});
  result.removed_rows = gone.unsqueeze(-1);
  return result;
}

KernelCase described(const char* name, Precision precision) {
  KernelCase result;
  result.name = name;
  result.precision = precision_name(precision);
  result.shape = {kVariants, kHeads, kTokens, kHeadDim};
  result.tolerance = 1e-4;
  return result;
}

constexpr double kValues = static_cast<double>(shape::kRows * kWidth);
// Two products of every variant; a multiply-add counts as two.
constexpr double kFlops = 4.0 * kVariants * kHeads * kTokens * kTokens * kHeadDim;

KernelCase of_attention_difference(Precision precision) {
  const Operands given = operands();
  const ProductRows rows = product_rows(3 * kWidth, 0.05, precision, 61);
  const ProductRows change{split_heads(rows.values, kTokens, kHeads), rows.scale};
  KernelCase result = described("attention_difference", precision);
  result.ours = [=] {
    return std::vector{
        attention_difference(given.set, given.qkv, change, given.removed, given.anchor_output)};
  };
  result.plain = [=] {
    at::Tensor moved = change.values.to(at::kFloat);
    if (change.scale.defined()) moved = moved * change.scale.view({kVariants, 1, 1, kTokens, 1});
    return std::vector{difference(given, attend(given.qkv + moved, given.key_mask))};
  };
  result.flops = kFlops;
  result.ours_bytes = kValues * (3 * traffic(precision).product + 4);
  // The sum of q, k and v; attention; heads joined; mask; difference.
  result.plain_bytes = kValues * (3 * (traffic(precision).plain_product + 8) + 16 + 8 + 8 + 8);
  return result;
}

KernelCase of_removal_difference() {
  const Operands given = operands();
  KernelCase result = described("removal_difference", Precision::kFloat32);
  result.ours = [=] {
    return std::vector{removal_difference(given.set, given.qkv, given.removed, given.anchor_output)};
  };
  result.plain = [=] {
    const at::Tensor qkv = given.qkv.expand({kVariants, -1, -1, -1, -1});
    return std::vector{difference(given, attend(qkv, given.key_mask))};
  };
  // Ours needs the anchor's probabilities alone.
  result.flops = kFlops / kVariants;
  result.ours_bytes = kValues * 4;
  result.plain_bytes = kValues * (4 + 8 + 8 + 8);
  return result;
}

KernelCase of_split_heads() {
  const at::Tensor rows = normal_values({shape::kRows, 3 * kWidth}, 75).to(at::kBFloat16);
  KernelCase result = described("split_heads", Precision::kBfloat16);
  result.ours = [=] { return std::vector{split_heads(rows, kTokens, kHeads)}; };
  result.plain = [=] {
    return std::vector{
        rows.view({kVariants, kTokens, 3, kHeads, kHeadDim}).permute({0, 3, 2, 1, 4}).contiguous()};
  };
  result.ours_bytes = result.plain_bytes = kValues * 3 * 4;
  result.tolerance = 0;
  return result;
}

KernelCase of_attention_rows() {
  const at::Tensor qkv = normal_qkv(kVariants, 70);
  KernelCase result = described("attention_rows", Precision::kFloat32);
  result.ours = [=] { return std::vector{attention_rows(qkv)}; };
  result.plain = [=] { return std::vector{attend(qkv, {})}; };
  result.flops = kFlops;
  result.ours_bytes = kValues * (12 + 4);
  result.plain_bytes = kValues * (12 + 4 + 8);
  return result;
}

}  // namespace

std::vector<KernelCaseMaker> attention_kernel_cases() {
  return {[] { return of_attention_difference(Precision::kBfloat16); },
          [] { return of_attention_difference(Precision::kInt8); }, of_removal_difference, of_attention_rows,
          of_split_heads};
}

}  // namespace ltrp::bench
