#include "core/engine/rounded_stack.h"

#include <ATen/ATen.h>

#include "kernels/delta.h"
#include "kernels/forward.h"

namespace ltrp {

RoundedStack::RoundedStack(const Transformer& stack, Precision precision)
    : precision_(precision), norm_(stack.norm) {
  for (const TransformerBlock& block : stack.blocks) {
    blocks_.push_back({RoundedBlock(block, precision), block.norm1, block.norm2, block.qkv.bias,
                       block.proj.bias, block.fc1.bias, block.fc2.bias, block.heads});
  }
}

at::Tensor RoundedStack::forward(const at::Tensor& x, bool first_only) const {
  const int64_t n = x.size(0), tokens = x.size(1), width = x.size(2);
  at::Tensor rows = x.view({-1, width});
  // What the block before leaves to be added, and its bias.
  ProductRows update;
  at::Tensor update_bias;
  const auto norm = [&](const LayerNormWeights& weights, Precision precision) {
    return add_layer_norm(rows, update, update_bias, weights.weight, weights.bias, weights.eps, precision);
  };
  for (const Block& block : blocks_) {
    const bool queries_only = first_only && &block == &blocks_.back();
    const ProductRows qkv = block.products.qkv(norm(block.norm1, precision_));
    const at::Tensor queries = queries_only ? at::zeros({n, 1}, x.options().dtype(at::kInt)) : at::Tensor();
    const at::Tensor attended = product_attention(qkv, block.qkv_bias, tokens, block.heads, queries);
    if (queries_only) rows = rows.view({n, tokens, width}).select(1, 0).contiguous();
    update = block.products.proj(round_rows({0, attended.size(0), {}}, attended, precision_));
    update_bias = block.proj_bias;
    update = block.products.fc2(
        gelu_rows(block.products.fc1(norm(block.norm2, precision_)), block.fc1_bias, precision_));
    update_bias = block.fc2_bias;
  }
  const at::Tensor normed = norm(norm_, Precision::kFloat32).values.view({n, -1, width});
  return first_only ? normed.slice(1, 0, 1) : normed;
}

int64_t RoundedStack::packed_bytes() const {
  int64_t bytes = 0;
  for (const Block& block : blocks_) bytes += block.products.packed_bytes();
  return bytes;
}

}  // namespace ltrp
