#include "core/engine/rounded_stack.h"

#include <ATen/ATen.h>

#include "kernels/delta.h"
#include "kernels/forward.h"

namespace ltrp {

namespace {

RoundedRows norm(const RoundedStack::Rows& rows, const LayerNormWeights& weights, Precision precision) {
  return add_layer_norm(rows.x, rows.update, rows.update_bias, weights.weight, weights.bias, weights.eps,
                        precision);
}

}  // namespace

RoundedStack::RoundedStack(const Transformer& stack, Precision precision)
    : precision_(precision), norm_(stack.norm) {
  for (const TransformerBlock& block : stack.blocks) {
    blocks_.push_back({RoundedBlock(block, precision), block.norm1, block.norm2, block.qkv.bias,
                       block.proj.bias, block.fc1.bias, block.fc2.bias, block.heads});
  }
}

ProductRows RoundedStack::product_rows(int64_t rows) const {
  const at::TensorOptions options = norm_.weight.options();
  ProductRows result;
  result.values = at::empty({rows, 3 * norm_.weight.size(0)},
                            precision_ == Precision::kFloat32 ? options : options.dtype(at::kBFloat16));
  if (precision_ == Precision::kInt8) result.scale = at::empty({rows}, options);
  return result;
}

ProductRows RoundedStack::project_qkv(size_t block, Rows& rows) const {
  ProductRows qkv = blocks_[block].products.qkv(norm(rows, blocks_[block].norm1, precision_));
  rows.update = {};
  return qkv;
}

at::Tensor RoundedStack::attend(size_t block, const ProductRows& qkv, int64_t tokens,
                                const at::Tensor& queries) const {
  return product_attention(qkv, blocks_[block].qkv_bias, tokens, blocks_[block].heads, queries);
}

void RoundedStack::finish(size_t index, const at::Tensor& attended, Rows& rows) const {
  const Block& block = blocks_[index];
  rows.update = block.products.proj(round_rows({0, attended.size(0), {}}, attended, precision_));
  rows.update_bias = block.proj_bias;
  rows.update = block.products.fc2(
      gelu_rows(block.products.fc1(norm(rows, block.norm2, precision_)), block.fc1_bias, precision_));
  rows.update_bias = block.fc2_bias;
}

at::Tensor RoundedStack::final_norm(Rows& rows) const {
  return norm(rows, norm_, Precision::kFloat32).values;
}

at::Tensor RoundedStack::forward(const at::Tensor& x, bool first_only) const {
  const int64_t n = x.size(0), tokens = x.size(1), width = x.size(2);
  Rows rows{x.view({-1, width})};
  for (size_t block = 0; block < depth(); ++block) {
    const bool queries_only = first_only && block + 1 == depth();
    const ProductRows qkv = project_qkv(block, rows);
    const at::Tensor queries = queries_only ? at::zeros({n, 1}, x.options().dtype(at::kInt)) : at::Tensor();
    const at::Tensor attended = attend(block, qkv, tokens, queries);
    if (queries_only) rows.x = rows.x.view({n, tokens, width}).select(1, 0).contiguous();
    finish(block, attended, rows);
  }
  const at::Tensor normed = final_norm(rows).view({n, -1, width});
  return first_only ? normed.slice(1, 0, 1) : normed;
}

int64_t RoundedStack::packed_bytes() const {
  int64_t bytes = 0;
  for (const Block& block : blocks_) bytes += block.products.packed_bytes();
  return bytes;
}

}  // namespace ltrp
