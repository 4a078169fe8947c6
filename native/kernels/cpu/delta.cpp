#include "kernels/delta.h"

#include "kernels/cpu/row_arguments.h"

namespace ltrp {

namespace {

args::Variants variants_of(const VariantSet& set) {
  return {set.variants, set.tokens, set.slots(), ints(set.image), ints(set.queries)};
}

args::PackedRows rows_of(const RowRange& range) {
  if (!range.ids.defined()) return {nullptr, range.begin};
  return {ints(range.ids) + range.begin, 0};
}

}  // namespace

at::Tensor layer_norm_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                           LayerNormAnchor* anchor) {
  const int64_t width = width_of(x), rows = x.numel() / width;
  at::Tensor result = at::empty(x.sizes(), at::kFloat);
  args::LayerNormRows arguments;
  arguments.width = width;
  arguments.eps = eps;
  arguments.x = floats(x);
  arguments.weight = floats(weight);
  arguments.bias = floats(bias);
  arguments.out = result.mutable_data_ptr<float>();
  if (anchor != nullptr) {
    anchor->normed = at::empty({rows, width}, at::kFloat);
    anchor->deviation = at::empty({rows}, at::kFloat);
    arguments.normed = anchor->normed.mutable_data_ptr<float>();
    arguments.deviation = anchor->deviation.mutable_data_ptr<float>();
  }
  for_rows(rows, width, simd::kernels().layer_norm, arguments);
  return result;
}

namespace {

args::LayerNormDifference layer_norm_arguments(const VariantSet& set, const RowRange& range,
                                               const at::Tensor& d, const ProductRows& update,
                                               const LayerNormAnchor& anchor, const at::Tensor& weight) {
  args::LayerNormDifference arguments;
  arguments.set = variants_of(set);
  arguments.width = width_of(d);
  arguments.rows = rows_of(range);
  arguments.d = const_cast<float*>(floats(d));
  arguments.update = product_of(update, range.size(), arguments.width);
  arguments.normed = floats(anchor.normed);
  arguments.deviation = floats(anchor.deviation);
  arguments.weight = floats(weight);
  return arguments;
}

}  // namespace

RoundedRows layer_norm_difference(const VariantSet& set, const RowRange& range, const at::Tensor& d,
                                  const ProductRows& update, const LayerNormAnchor& anchor,
                                  const at::Tensor& weight, Precision precision) {
  args::LayerNormDifference arguments = layer_norm_arguments(set, range, d, update, anchor, weight);
  RoundedRows result = rounded_rows(range.size(), arguments.width, precision, arguments.out);
  for_rows(range.size(), arguments.width, simd::kernels().layer_norm_difference, arguments);
  return result;
}

at::Tensor layer_norm_difference_squares(const VariantSet& set, const RowRange& range, const at::Tensor& d,
                                         const ProductRows& update, const LayerNormAnchor& anchor,
                                         const at::Tensor& weight) {
  args::LayerNormDifference arguments = layer_norm_arguments(set, range, d, update, anchor, weight);
  at::Tensor result = at::empty({range.size()}, at::kFloat);
  arguments.squares = result.mutable_data_ptr<float>();
  for_rows(range.size(), arguments.width, simd::kernels().layer_norm_difference, arguments);
  return result;
}

RoundedRows gelu_difference(const VariantSet& set, const RowRange& range, const ProductRows& du,
                            const at::Tensor& u, const at::Tensor& gelu_u, Precision precision) {
  args::GeluDifference arguments;
  arguments.set = variants_of(set);
  arguments.width = width_of(u);
  arguments.rows = rows_of(range);
  arguments.du = product_of(du, range.size(), arguments.width);
  TORCH_CHECK(du.values.defined(), "a product is expected");
  arguments.u = floats(u);
  arguments.gelu_u = floats(gelu_u);
  RoundedRows result = rounded_rows(range.size(), arguments.width, precision, arguments.out);
  for_rows(range.size(), arguments.width, simd::kernels().gelu_difference, arguments);
  return result;
}

RoundedRows round_rows(const RowRange& range, const at::Tensor& x, Precision precision) {
  args::RoundRows arguments;
  arguments.width = width_of(x);
  arguments.rows = rows_of(range);
  arguments.x = floats(x);
  RoundedRows result = rounded_rows(range.size(), arguments.width, precision, arguments.out);
  for_rows(range.size(), arguments.width, simd::kernels().round_rows, arguments);
  return result;
}

void add_rows(const RowRange& range, const at::Tensor& x, const ProductRows& update) {
  args::AddRows arguments;
  arguments.width = width_of(x);
  arguments.rows = rows_of(range);
  arguments.update = product_of(update, range.size(), arguments.width);
  arguments.x = const_cast<float*>(floats(x));
  for_rows(range.size(), arguments.width, simd::kernels().add_rows, arguments);
}

at::Tensor row_sums(const ProductRows& x, bool squared) {
  const int64_t rows = x.values.size(0);
  at::Tensor result = at::empty({rows}, at::kDouble);
  args::RowSums arguments;
  arguments.width = width_of(x.values);
  arguments.x = product_of(x, rows, arguments.width);
  arguments.squared = squared;
  arguments.sums = result.mutable_data_ptr<double>();
  for_rows(rows, arguments.width, simd::kernels().row_sums, arguments);
  return result;
}

at::Tensor split_heads(const at::Tensor& qkv, int64_t tokens, int64_t heads, const at::Tensor& packed_row) {
  TORCH_CHECK(qkv.is_contiguous(), "a contiguous tensor is expected");
  const int64_t n = (packed_row.defined() ? packed_row.size(0) : qkv.size(0)) / tokens,
                head_dim = qkv.size(1) / (3 * heads);
  at::Tensor result = at::empty({n, heads, 3, tokens, head_dim}, qkv.options());
  args::SplitHeads arguments;
  arguments.packed_row = ints(packed_row);
  arguments.tokens = tokens;
  arguments.heads = heads;
  arguments.head_bytes = head_dim * static_cast<int64_t>(qkv.element_size());
  arguments.rows = static_cast<const char*>(qkv.const_data_ptr());
  arguments.out = static_cast<char*>(result.mutable_data_ptr());
  at::parallel_for(0, n, 1,
                   [&](int64_t begin, int64_t end) { simd::kernels().split_heads(arguments, begin, end); });
  return result;
}

namespace {

// What the attention kernels' arguments share; returns their output.
template <typename Arguments>
at::Tensor by_head_arguments(const VariantSet& set, const at::Tensor& qkv, Arguments& arguments) {
  arguments.set = variants_of(set);
  arguments.heads = qkv.size(1);
  arguments.head_dim = qkv.size(4);
  arguments.qkv = floats(qkv);
  at::Tensor result = at::empty({set.rows(), arguments.heads * arguments.head_dim}, at::kFloat);
  arguments.out = result.mutable_data_ptr<float>();
  return result;
}

}  // namespace

at::Tensor attention_rows(const at::Tensor& qkv, const at::Tensor& queries) {
  const int64_t n = qkv.size(0);
  const VariantSet set{n, qkv.size(3), at::arange(n, at::kInt), queries};
  args::Attention arguments;
  const at::Tensor result = by_head_arguments(set, qkv, arguments);
  const simd::KernelTable& kernels = simd::kernels();
  for_heads(n * arguments.heads, kernels.attention_workspace(arguments.set, arguments.head_dim),
            kernels.attention, arguments);
  return result.view({n, set.slots(), -1});
}

at::Tensor attention_difference(const VariantSet& set, const at::Tensor& qkv, const ProductRows& dqkv,
                                const at::Tensor& removed, const at::Tensor& anchor_output) {
  args::Attention arguments;
  const at::Tensor result = by_head_arguments(set, qkv, arguments);
  arguments.dqkv = product_of(dqkv, set.variants * set.tokens, 3 * result.size(1));
  arguments.removed = ints(removed);
  arguments.anchor_output = floats(anchor_output);
  const simd::KernelTable& kernels = simd::kernels();
  for_heads(set.variants * arguments.heads, kernels.attention_workspace(arguments.set, arguments.head_dim),
            kernels.attention, arguments);
  return result;
}

at::Tensor removal_difference(const VariantSet& set, const at::Tensor& qkv, const at::Tensor& removed,
                              const at::Tensor& anchor_output) {
  TORCH_CHECK(removed.defined(), "a removed token for each variant is expected");
  args::RemovalAttention arguments;
  const at::Tensor result = by_head_arguments(set, qkv, arguments);
  arguments.removed = ints(removed);
  arguments.anchor_output = floats(anchor_output);
  const simd::KernelTable& kernels = simd::kernels();
  for_heads(qkv.size(0) * arguments.heads, kernels.attention_workspace(arguments.set, arguments.head_dim),
            kernels.removal_attention, arguments);
  return result;
}

}  // namespace ltrp
