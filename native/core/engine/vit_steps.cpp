#include "core/engine/vit_steps.h"

#include <ATen/ATen.h>

#include <cmath>

#include "kernels/forward.h"

namespace ltrp {
namespace {

// W of x W^T, which only the product knows the layout of: what it makes of the unit vectors.
LinearWeights unpacked_linear(const LinearWeights& linear, int64_t inputs) {
  if (!linear.packed.defined()) return linear;
  const at::Tensor units = at::eye(inputs, linear.bias.options());
  return {packed_linear(units, linear.packed, at::zeros_like(linear.bias)).t().contiguous(), linear.bias, {}};
}

}  // namespace

at::Tensor attention_probabilities(const at::Tensor& qkv, int64_t heads, bool first_only,
                                   const at::Tensor& key_bias) {
  const int64_t n = qkv.size(0), tokens = qkv.size(1), width = qkv.size(2) / 3 / heads;
  const at::Tensor parts = qkv.view({n, tokens, 3, heads, width}).permute({2, 0, 3, 1, 4});
  const at::Tensor queries = first_only ? parts[0].slice(2, 0, 1) : parts[0];
  at::Tensor logits = at::matmul(queries, parts[1].transpose(-2, -1)) / std::sqrt(static_cast<double>(width));
  if (key_bias.defined()) logits = logits + key_bias.view({n, 1, 1, tokens});
  return logits.softmax(-1);
}

at::Tensor VitSteps::tokens(const at::Tensor& images) const {
  return vit_ != nullptr ? vit_->tokens(images) : inference_->tokens(images);
}

at::Tensor VitSteps::project_qkv(int64_t index, const at::Tensor& tokens) const {
  return vit_ != nullptr ? block(index).project_qkv(tokens)
                         : inference_->stack().project_qkv(static_cast<size_t>(index), tokens);
}

at::Tensor VitSteps::attend(int64_t index, const at::Tensor& qkv) const {
  if (vit_ != nullptr) return block(index).attend(qkv);
  const int64_t tokens = qkv.size(1);
  return attention_rows(split_heads(qkv.reshape({-1, qkv.size(2)}), tokens, heads()));
}

at::Tensor VitSteps::add_attended(int64_t index, const at::Tensor& tokens, const at::Tensor& attended) const {
  return vit_ != nullptr ? block(index).add_attended(tokens, attended)
                         : inference_->stack().add_attended(static_cast<size_t>(index), tokens, attended);
}

at::Tensor VitSteps::add_mlp(int64_t index, const at::Tensor& tokens) const {
  return vit_ != nullptr ? block(index).add_mlp(tokens)
                         : inference_->stack().add_mlp(static_cast<size_t>(index), tokens);
}

at::Tensor VitSteps::forward(at::Tensor tokens, int64_t begin, int64_t end) const {
  for (int64_t i = begin; i < end; ++i)
    tokens = add_mlp(i, add_attended(i, tokens, attend(i, project_qkv(i, tokens))));
  return tokens;
}

TransformerBlock VitSteps::unpacked(int64_t index) const {
  if (vit_ == nullptr) return inference_->stack().unpacked(static_cast<size_t>(index));
  TransformerBlock result = block(index);
  const int64_t width = config_.encoder.dim;
  result.qkv = unpacked_linear(result.qkv, width);
  result.proj = unpacked_linear(result.proj, width);
  result.fc1 = unpacked_linear(result.fc1, width);
  result.fc2 = unpacked_linear(result.fc2, config_.encoder.mlp_dim);
  result.norm1.packed = result.norm2.packed = false;
  return result;
}

LayerNormWeights VitSteps::final_norm() const {
  LayerNormWeights norm = vit_ != nullptr ? vit_->blocks().norm : inference_->stack().final_norm_weights();
  norm.packed = false;
  return norm;
}

}  // namespace ltrp
