#include "kernels/forward.h"

#include "kernels/tensor_arguments.h"

namespace ltrp {

RoundedRows patch_rows(const at::Tensor& images, int64_t patch_size, const at::Tensor& ids,
                       Precision precision) {
  args::PatchRows arguments;
  arguments.patch_size = patch_size;
  arguments.height = images.size(2);
  arguments.width = images.size(3);
  arguments.per_image = (arguments.height / patch_size) * (arguments.width / patch_size);
  arguments.images = floats(images);
  if (ids.defined()) {
    TORCH_CHECK(ids.is_contiguous() && ids.scalar_type() == at::kLong, "contiguous int64 ids are expected");
    arguments.per_image = ids.size(1);
    arguments.ids = ids.const_data_ptr<int64_t>();
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
