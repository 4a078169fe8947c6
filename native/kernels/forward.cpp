#include "kernels/forward.h"

#include "kernels/tensor_arguments.h"

namespace ltrp {

RoundedRows round_rows(const RowRange& range, const at::Tensor& x, Precision precision) {
  args::RoundRows arguments;
  arguments.width = width_of(x);
  arguments.rows = rows_of(range);
  arguments.x = floats(x);
  RoundedRows result = rounded_rows(x, range.size(), arguments.width, precision, arguments.out);
  backend_of(x).round_rows(arguments, range.size());
  return result;
}

void add_rows(const RowRange& range, const at::Tensor& x, const ProductRows& update) {
  args::AddRows arguments;
  arguments.width = width_of(x);
  arguments.rows = rows_of(range);
  arguments.update = product_of(update, range.size(), arguments.width);
  arguments.x = const_cast<float*>(floats(x));
  backend_of(x).add_rows(arguments, range.size());
}

at::Tensor layer_norm_rows(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                           LayerNormAnchor* anchor) {
  const int64_t width = width_of(x), rows = x.numel() / width;
  at::Tensor result = at::empty(x.sizes(), x.options());
  args::LayerNormRows arguments;
  arguments.width = width;
  arguments.eps = eps;
  arguments.x = floats(x);
  arguments.weight = floats(weight);
  arguments.bias = floats(bias);
  arguments.out = result.mutable_data_ptr<float>();
  if (anchor != nullptr) {
    anchor->normed = at::empty({rows, width}, x.options());
    anchor->deviation = at::empty({rows}, x.options());
    arguments.normed = anchor->normed.mutable_data_ptr<float>();
    arguments.deviation = anchor->deviation.mutable_data_ptr<float>();
  }
  backend_of(x).layer_norm(arguments, rows);
  return result;
}

at::Tensor row_sums(const ProductRows& x, bool squared) {
  const int64_t rows = x.values.size(0);
  at::Tensor result = at::empty({rows}, x.values.options().dtype(at::kDouble));
  args::RowSums arguments;
  arguments.width = width_of(x.values);
  arguments.x = product_of(x, rows, arguments.width);
  arguments.squared = squared;
  arguments.sums = result.mutable_data_ptr<double>();
  backend_of(x.values).row_sums(arguments, rows);
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
  backend_of(qkv).split_heads(arguments, n);
  return result;
}

RoundedRows patch_rows(const at::Tensor& images, int64_t patch_size, const at::Tensor& ids,
                       Precision precision) {
  args::PatchRows arguments;
  arguments.patch_size = patch_size;
  arguments.height = images.size(2);
  arguments.width = images.size(3);
  arguments.per_image = (arguments.height / patch_size) * (arguments.width / patch_size);
  arguments.images = floats(images);
  if (ids.defined()) {
    arguments.per_image = ids.size(1);
    arguments.ids = longs(ids);
  }
  const int64_t rows = images.size(0) * arguments.per_image, width = 3 * patch_size * patch_size;
  TORCH_CHECK(width <= kWidestRow, "patches of ", width, " values are too large");
  RoundedRows result = rounded_rows(images, rows, width, precision, arguments.out);
  backend_of(images).patches(arguments, rows);
  return result;
}

RoundedRows add_layer_norm(const at::Tensor& x, const ProductRows& update, const at::Tensor& update_bias,
                           const at::Tensor& weight, const at::Tensor& bias, double eps,
                           Precision precision) {
  const int64_t width = width_of(x), rows = x.numel() / width;
  args::AddLayerNorm arguments;
  arguments.width = width;
  arguments.eps = eps;
  arguments.x = const_cast<float*>(floats(x));
  arguments.update = product_of(update, rows, width);
  if (update.values.defined()) arguments.update_bias = floats(update_bias);
  arguments.weight = floats(weight);
  arguments.bias = floats(bias);
  RoundedRows result = rounded_rows(x, rows, width, precision, arguments.out);
  backend_of(x).add_layer_norm(arguments, rows);
  return result;
}

RoundedRows gelu_rows(const ProductRows& u, const at::Tensor& bias, Precision precision) {
  const int64_t width = width_of(u.values), rows = u.values.size(0);
  args::GeluRows arguments;
  arguments.width = width;
  arguments.u = product_of(u, rows, width);
  arguments.bias = floats(bias);
  RoundedRows result = rounded_rows(bias, rows, width, precision, arguments.out);
  if (arguments.out.encoding == args::Encoding::kUint8) result.zero_point = args::kGeluZero;
  backend_of(bias).gelu(arguments, rows);
  return result;
}

at::Tensor attention_rows(const at::Tensor& qkv, const at::Tensor& queries, const at::Tensor& removed) {
  const int64_t n = qkv.size(0), tokens = qkv.size(3), slots = queries.defined() ? queries.size(1) : tokens;
  const at::Tensor image = at::arange(n, qkv.options().dtype(at::kInt));
  args::Attention arguments;
  arguments.set = {n, tokens, slots, ints(image), ints(queries)};
  arguments.heads = qkv.size(1);
  arguments.head_dim = qkv.size(4);
  arguments.qkv = floats(qkv);
  arguments.removed = ints(removed);
  at::Tensor result = at::empty({n, slots, arguments.heads * arguments.head_dim}, qkv.options());
  arguments.out = result.mutable_data_ptr<float>();
  backend_of(qkv).attention(arguments);
  return result;
}

at::Tensor product_attention(const ProductRows& qkv, const at::Tensor& bias, int64_t tokens, int64_t heads,
                             const at::Tensor& queries) {
  const int64_t n = qkv.values.size(0) / tokens, width = qkv.values.size(1) / 3;
  const int64_t slots = queries.defined() ? queries.size(1) : tokens;
  at::Tensor result = at::empty({n * slots, width}, bias.options());
  const at::Tensor image = at::arange(n, bias.options().dtype(at::kInt));
  args::Attention arguments;
  arguments.set = {n, tokens, slots, ints(image), ints(queries)};
  arguments.heads = heads;
  arguments.head_dim = width / heads;
  arguments.bias = floats(bias);
  arguments.dqkv = product_of(qkv, n * tokens, 3 * width);
  arguments.out = result.mutable_data_ptr<float>();
  backend_of(bias).attention(arguments);
  return result;
}

}  // namespace ltrp
