#include "kernels/delta.h"

#include "kernels/tensor_arguments.h"

namespace ltrp {

namespace {

args::Variants variants_of(const VariantSet& set) {
  return {set.variants, set.tokens, set.slots(), ints(set.image), ints(set.queries)};
}

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
  RoundedRows result = rounded_rows(d, range.size(), arguments.width, precision, arguments.out);
  backend_of(d).layer_norm_difference(arguments, range.size());
  return result;
}

at::Tensor layer_norm_difference_squares(const VariantSet& set, const RowRange& range, const at::Tensor& d,
                                         const ProductRows& update, const LayerNormAnchor& anchor,
                                         const at::Tensor& weight) {
  args::LayerNormDifference arguments = layer_norm_arguments(set, range, d, update, anchor, weight);
  at::Tensor result = at::empty({range.size()}, d.options());
  arguments.squares = result.mutable_data_ptr<float>();
  backend_of(d).layer_norm_difference(arguments, range.size());
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
  RoundedRows result = rounded_rows(u, range.size(), arguments.width, precision, arguments.out);
  backend_of(u).gelu_difference(arguments, range.size());
  return result;
}

RowRange large_rows(const at::Tensor& squares, const VariantSet& set, const at::Tensor& unread,
                    double tolerance) {
  floats(squares);
  ints(unread);
  const at::Tensor ids =
      backend_of(squares).large_rows(squares.view({set.variants, set.slots()}), unread, tolerance);
  return {0, ids.size(0), ids};
}

namespace {

// What the attention kernels' arguments share; returns their output.
template <typename Arguments>
at::Tensor by_head_arguments(const VariantSet& set, const at::Tensor& qkv, Arguments& arguments) {
  arguments.set = variants_of(set);
  arguments.heads = qkv.size(1);
  arguments.head_dim = qkv.size(4);
  arguments.qkv = floats(qkv);
  at::Tensor result = at::empty({set.rows(), arguments.heads * arguments.head_dim}, qkv.options());
  arguments.out = result.mutable_data_ptr<float>();
  return result;
}

}  // namespace

at::Tensor attention_difference(const VariantSet& set, const at::Tensor& qkv, const ProductRows& dqkv,
                                const at::Tensor& removed, const at::Tensor& anchor_output) {
  args::Attention arguments;
  const at::Tensor result = by_head_arguments(set, qkv, arguments);
  arguments.dqkv = product_of(dqkv, set.variants * set.tokens, 3 * result.size(1));
  arguments.removed = ints(removed);
  arguments.anchor_output = floats(anchor_output);
  backend_of(qkv).attention(arguments);
  return result;
}

at::Tensor removal_difference(const VariantSet& set, const at::Tensor& qkv, const at::Tensor& removed,
                              const at::Tensor& anchor_output) {
  TORCH_CHECK(removed.defined(), "a removed token for each variant is expected");
  args::RemovalAttention arguments;
  const at::Tensor result = by_head_arguments(set, qkv, arguments);
  arguments.removed = ints(removed);
  arguments.anchor_output = floats(anchor_output);
  backend_of(qkv).removal_attention(arguments, qkv.size(0));
  return result;
}

}  // namespace ltrp
