#include "core/engine/low_precision_stack.h"

#include <ATen/ATen.h>

#include "kernels/forward.h"

namespace ltrp {

namespace {

RoundedRows norm(const LowPrecisionStack::Rows& rows, const LayerNormWeights& weights, Precision precision) {
  return add_layer_norm(rows.x, rows.update, rows.update_bias, weights.weight, weights.bias, weights.eps,
                        precision);
}

at::Tensor rows_of(const at::Tensor& tokens) { return tokens.reshape({-1, tokens.size(-1)}); }

// x [n, T, E] plus a product and its bias.
at::Tensor plus(const at::Tensor& x, const ProductRows& product, const at::Tensor& bias) {
  return x + (product_values(product) + bias).view_as(x);
}

}  // namespace

LowPrecisionStack::LowPrecisionStack(const Transformer& stack, Precision precision, const RunContext& context)
    : precision_(precision), norm_(stack.norm) {
  for (const TransformerBlock& block : stack.blocks) {
    context.check();
    blocks_.push_back({LowPrecisionBlock(block, precision), block.norm1, block.norm2, block.qkv.bias,
                       block.proj.bias, block.fc1.bias, block.fc2.bias, block.heads});
  }
}

ProductRows LowPrecisionStack::product_rows(int64_t rows) const {
  const at::Tensor& bias = blocks_.front().qkv_bias;
  const at::TensorOptions options = bias.options();
  ProductRows result;
  result.values = at::empty({rows, bias.size(0)},
                            precision_ == Precision::kFloat32 ? options : options.dtype(at::kBFloat16));
  if (eight_bits(precision_)) result.scale = at::empty({rows}, options);
  return result;
}

void LowPrecisionStack::project_qkv(size_t block, Rows& rows, const ProductRows& into) const {
  blocks_[block].products.qkv.write(norm(rows, blocks_[block].norm1, precision_), into);
  rows.update = {};
}

at::Tensor LowPrecisionStack::attend(size_t block, const ProductRows& qkv, int64_t tokens,
                                     const at::Tensor& queries) const {
  return product_attention(qkv, blocks_[block].qkv_bias, tokens, blocks_[block].heads, queries);
}

void LowPrecisionStack::finish(size_t index, const at::Tensor& attended, Rows& rows) const {
  const Block& block = blocks_[index];
  rows.update = block.products.proj(round_rows({0, attended.size(0), {}}, attended, precision_));
  rows.update_bias = block.proj_bias;
  rows.update =
      block.products.fc2(block.products.fc1.gelu(norm(rows, block.norm2, precision_), block.fc1_bias));
  rows.update_bias = block.fc2_bias;
}

at::Tensor LowPrecisionStack::final_norm(Rows& rows) const {
  if (norm_.weight.defined()) return norm(rows, norm_, Precision::kFloat32).values;
  if (rows.update.values.defined()) {
    add_rows({0, rows.x.size(0), {}}, rows.x, rows.update);
    rows.x.add_(rows.update_bias);
  }
  return rows.x;
}

at::Tensor LowPrecisionStack::forward(const at::Tensor& x, bool first_only) const {
  const int64_t n = x.size(0), tokens = x.size(1), width = x.size(2);
  Rows rows{x.view({-1, width})};
  for (size_t block = 0; block < depth(); ++block) {
    const bool queries_only = first_only && block + 1 == depth();
    const ProductRows qkv = blocks_[block].products.qkv(norm(rows, blocks_[block].norm1, precision_));
    rows.update = {};
    const at::Tensor queries = queries_only ? at::zeros({n, 1}, x.options().dtype(at::kInt)) : at::Tensor();
    const at::Tensor attended = attend(block, qkv, tokens, queries);
    if (queries_only) rows.x = rows.x.view({n, tokens, width}).select(1, 0).contiguous();
    finish(block, attended, rows);
  }
  const at::Tensor normed = final_norm(rows).view({n, -1, width});
  return first_only ? normed.slice(1, 0, 1) : normed;
}

at::Tensor LowPrecisionStack::project_qkv(size_t index, const at::Tensor& tokens) const {
  const Block& block = blocks_[index];
  const ProductRows qkv = block.products.qkv(norm({rows_of(tokens)}, block.norm1, precision_));
  return (product_values(qkv) + block.qkv_bias).view({tokens.size(0), tokens.size(1), -1});
}

at::Tensor LowPrecisionStack::add_attended(size_t index, const at::Tensor& tokens,
                                           const at::Tensor& attended) const {
  const at::Tensor rows = rows_of(attended);
  return plus(tokens, blocks_[index].products.proj(round_rows({0, rows.size(0), {}}, rows, precision_)),
              blocks_[index].proj_bias);
}

at::Tensor LowPrecisionStack::add_mlp(size_t index, const at::Tensor& tokens) const {
  const Block& block = blocks_[index];
  const RoundedRows normed = norm({rows_of(tokens)}, block.norm2, precision_);
  return plus(tokens, block.products.fc2(block.products.fc1.gelu(normed, block.fc1_bias)), block.fc2_bias);
}

TransformerBlock LowPrecisionStack::unpacked(size_t index) const {
  const Block& block = blocks_[index];
  // Only the product knows the layout of its weights: what it makes of the unit vectors is they.
  const auto weights = [&](const LowPrecisionLinear& linear, int64_t inputs, const at::Tensor& bias) {
    const at::Tensor units = at::eye(inputs, bias.options());
    return LinearWeights{
        product_values(linear(round_rows({0, inputs, {}}, units, precision_))).t().contiguous(), bias, {}};
  };
  const int64_t width = block.norm1.weight.size(0), hidden = block.fc1_bias.size(0);
  TransformerBlock result;
  result.norm1 = block.norm1;
  result.norm2 = block.norm2;
  result.norm1.packed = result.norm2.packed = false;
  result.qkv = weights(block.products.qkv, width, block.qkv_bias);
  result.proj = weights(block.products.proj, width, block.proj_bias);
  result.fc1 = weights(block.products.fc1, width, block.fc1_bias);
  result.fc2 = weights(block.products.fc2, hidden, block.fc2_bias);
  result.heads = block.heads;
  return result;
}

int64_t LowPrecisionStack::packed_bytes() const {
  int64_t bytes = 0;
  for (const Block& block : blocks_) bytes += block.products.packed_bytes();
  return bytes;
}

}  // namespace ltrp
