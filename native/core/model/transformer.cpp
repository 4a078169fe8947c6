#include "core/model/transformer.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "kernels/backend.h"
#include "kernels/forward.h"
#include "kernels/interrupt.h"
#include "kernels/linear.h"

namespace ltrp {

at::Tensor LinearWeights::operator()(const at::Tensor& x) const {
  return packed.defined() ? packed_linear(x.contiguous(), packed, bias) : at::linear(x, weight, bias);
}

void LinearWeights::pack() {
  if (weight.scalar_type() == at::kFloat) packed = packed_weight(weight);
}

at::Tensor LayerNormWeights::operator()(const at::Tensor& x) const {
  if (!weight.defined()) return x;
  return packed ? layer_norm_rows(x.contiguous(), weight, bias, eps)
                : at::layer_norm(x, {weight.size(0)}, weight, bias, eps);
}

at::Tensor PatchEmbedding::operator()(const at::Tensor& patches) const {
  return packed.defined() ? packed_linear(patches.contiguous(), packed, bias)
                          : at::linear(patches, weight.flatten(1), bias);
}

void PatchEmbedding::pack() {
  if (weight.scalar_type() == at::kFloat) packed = packed_weight(weight.flatten(1));
}

namespace {

// LibTorch's operator cannot be interrupted, and makes a mask in full: where an image's attention is long, it
// is taken for some queries at a time. q [n, heads, Q, d], k and v [n, heads, K, d], mask [n, 1, Q, K].
at::Tensor interruptible_attention(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v,
                                   const std::optional<at::Tensor>& mask) {
  constexpr int64_t kFewest = 32;
  const int64_t count = q.size(2);
  const double flops_of_query = 4.0 * static_cast<double>(k.size(1) * k.size(2) * k.size(3));
  const auto piece = std::max(
      kFewest, static_cast<int64_t>(backend_of(q).flops_at_a_time() / flops_of_query) / kFewest * kFewest);
  const Interrupt interrupt = Interrupt::current();
  interrupt.check();
  if (count <= piece) return at::scaled_dot_product_attention(q, k, v, mask);
  std::vector<at::Tensor> parts;
  for (int64_t first = 0; first < count; first += piece) {
    interrupt.check();
    const int64_t some = std::min(piece, count - first);
    std::optional<at::Tensor> some_mask;
    if (mask) some_mask = mask->narrow(2, first, some);
    parts.push_back(at::scaled_dot_product_attention(q.narrow(2, first, some), k, v, some_mask));
  }
  return at::cat(parts, 2);
}

at::Tensor of_block(const at::Tensor& scales, size_t block) {
  return scales.defined() ? scales[static_cast<int64_t>(block)] : scales;
}

}  // namespace

at::Tensor TransformerBlock::project_qkv(const at::Tensor& tokens) const { return qkv(norm1(tokens)); }

at::Tensor TransformerBlock::attend(const at::Tensor& x, const std::optional<at::Tensor>& query_ids,
                                    const std::optional<at::Tensor>& hidden) const {
  const int64_t n = x.size(0), tokens = x.size(1), dim = x.size(2) / 3;
  if (qkv.packed.defined()) {
    const auto ints = [](const std::optional<at::Tensor>& ids) {
      return ids ? ids->to(at::kInt) : at::Tensor();
    };
    return attention_rows(split_heads(x.contiguous().view({n * tokens, 3 * dim}), tokens, heads),
                          ints(query_ids), ints(hidden));
  }
  const auto split = [&](const at::Tensor& part) {
    return part.view({n, part.size(1), heads, dim / heads}).transpose(1, 2);
  };
  const std::vector<at::Tensor> parts = x.chunk(3, -1);
  const at::Tensor queries = query_ids ? gather_tokens(parts[0], *query_ids) : parts[0];
  at::Tensor is_hidden;  // [n, T]
  std::optional<at::Tensor> mask;
  if (hidden) {
    is_hidden = at::arange(tokens, hidden->options()).eq(hidden->unsqueeze(1));
    mask = is_hidden.logical_not().unsqueeze(1).unsqueeze(1).expand({-1, 1, queries.size(1), -1});
  }
  at::Tensor out = interruptible_attention(split(queries), split(parts[1]), split(parts[2]), mask)
                       .transpose(1, 2)
                       .reshape({n, queries.size(1), dim});
  if (hidden) out = out.masked_fill(is_hidden.unsqueeze(-1), 0);
  return out;
}

at::Tensor TransformerBlock::finish(const at::Tensor& residual, const at::Tensor& attended,
                                    const at::Tensor& scales) const {
  if (!scales.defined()) return add_mlp(add_attended(residual, attended));
  return add_mlp(add_attended(residual, attended, scales[0]), scales[1]);
}

at::Tensor TransformerBlock::add_attended(const at::Tensor& residual, const at::Tensor& attended,
                                          const at::Tensor& scale) const {
  if (scale.defined()) return residual + proj(attended) * scale.view({-1, 1, 1});
  if (proj.packed.defined()) return packed_linear_add(attended, proj.packed, proj.bias, residual);
  return residual + proj(attended);
}

at::Tensor TransformerBlock::add_mlp(const at::Tensor& tokens, const at::Tensor& scale) const {
  if (proj.packed.defined() && !scale.defined()) {
    const at::Tensor activated = packed_linear(norm2(tokens), fc1.packed, fc1.bias, /*gelu=*/true);
    return packed_linear_add(activated, fc2.packed, fc2.bias, tokens);
  }
  const at::Tensor added = fc2(at::gelu(fc1(norm2(tokens))));
  return tokens + (scale.defined() ? added * scale.view({-1, 1, 1}) : added);
}

at::Tensor TransformerBlock::forward(const at::Tensor& tokens, const std::optional<at::Tensor>& hidden,
                                     const at::Tensor& scales) const {
  return finish(tokens, attend(project_qkv(tokens), {}, hidden), scales);
}

at::Tensor Transformer::forward(at::Tensor tokens, const std::optional<at::Tensor>& hidden,
                                const at::Tensor& scales) const {
  if (pass && !hidden) return norm(pass->forward(tokens, {}, scales));
  for (size_t i = 0; i < blocks.size(); ++i) tokens = blocks[i].forward(tokens, hidden, of_block(scales, i));
  return norm(tokens);
}

at::Tensor Transformer::forward_at(at::Tensor tokens, const at::Tensor& query_ids,
                                   const std::optional<at::Tensor>& first_qkv,
                                   const at::Tensor& scales) const {
  if (pass && !first_qkv) return norm(pass->forward(tokens, query_ids, scales));
  for (size_t i = 0; i < blocks.size(); ++i) {
    const TransformerBlock& block = blocks[i];
    const at::Tensor qkv = i == 0 && first_qkv ? *first_qkv : block.project_qkv(tokens);
    const bool last = i + 1 == blocks.size();
    const at::Tensor attended = last ? block.attend(qkv, query_ids) : block.attend(qkv);
    if (last) tokens = gather_tokens(tokens, query_ids);
    tokens = block.finish(tokens, attended, of_block(scales, i));
  }
  return norm(tokens);
}

at::Tensor Transformer::forward_first(const at::Tensor& tokens, const at::Tensor& scales) const {
  return forward_at(tokens, at::zeros({tokens.size(0), 1}, tokens.options().dtype(at::kLong)), {}, scales);
}

void Transformer::pack(const RunContext& context) {
  for (TransformerBlock& block : blocks) {
    for (LinearWeights* linear : {&block.qkv, &block.proj, &block.fc1, &block.fc2}) {
      context.check();
      linear->pack();
    }
    block.norm1.packed = block.norm2.packed = block.qkv.packed.defined();
    norm.packed = block.qkv.packed.defined();
  }
}

void Transformer::drop_unpacked(bool all) {
  for (TransformerBlock& block : blocks) {
    for (LinearWeights* linear : {&block.qkv, &block.proj, &block.fc1, &block.fc2}) {
      if (all || linear->packed.defined()) linear->weight.reset();
    }
  }
}

namespace {

const at::Tensor& at_name(const TensorMap& tensors, const std::string& name) {
  const auto found = tensors.find(name);
  if (found == tensors.end())
    throw Error(codes::kCheckpointContent, "The checkpoint has no tensor '" + name + "'.");
  return found->second;
}

}  // namespace

LinearWeights linear_weights(const TensorMap& tensors, const std::string& name) {
  return {at_name(tensors, name + ".weight"), at_name(tensors, name + ".bias"), {}};
}

LayerNormWeights layer_norm_weights(const TensorMap& tensors, const std::string& name, double eps) {
  return {at_name(tensors, name + ".weight"), at_name(tensors, name + ".bias"), eps};
}

Transformer transformer_weights(const TensorMap& tensors, const TransformerConfig& config,
                                const std::string& prefix, const std::string& norm, double eps) {
  Transformer result;
  for (int64_t i = 0; i < config.depth; ++i) {
    const std::string name = prefix + "." + std::to_string(i);
    TransformerBlock block;
    block.norm1 = layer_norm_weights(tensors, name + ".norm1", eps);
    block.norm2 = layer_norm_weights(tensors, name + ".norm2", eps);
    block.qkv = linear_weights(tensors, name + ".attn.qkv");
    block.proj = linear_weights(tensors, name + ".attn.proj");
    block.fc1 = linear_weights(tensors, name + ".mlp.fc1");
    block.fc2 = linear_weights(tensors, name + ".mlp.fc2");
    block.heads = config.heads;
    result.blocks.push_back(std::move(block));
  }
  if (!norm.empty()) result.norm = layer_norm_weights(tensors, norm, eps);
  return result;
}

void initialize_linear(TensorMap& tensors, const std::string& name, int64_t in, int64_t out,
                       at::Generator& generator) {
  const double bound = std::sqrt(6.0 / static_cast<double>(in + out));
  tensors[name + ".weight"] = at::empty({out, in}, at::kFloat).uniform_(-bound, bound, generator);
  tensors[name + ".bias"] = at::zeros({out}, at::kFloat);
}

void initialize_layer_norm(TensorMap& tensors, const std::string& name, int64_t dim) {
  tensors[name + ".weight"] = at::ones({dim}, at::kFloat);
  tensors[name + ".bias"] = at::zeros({dim}, at::kFloat);
}

void initialize_token(TensorMap& tensors, const std::string& name, int64_t dim, at::Generator& generator) {
  tensors[name] = at::empty({1, 1, dim}, at::kFloat).normal_(0, 0.02, generator);
}

void initialize_transformer(TensorMap& tensors, const TransformerConfig& config, const std::string& prefix,
                            const std::string& norm, at::Generator& generator) {
  for (int64_t i = 0; i < config.depth; ++i) {
    const std::string name = prefix + "." + std::to_string(i);
    initialize_layer_norm(tensors, name + ".norm1", config.dim);
    initialize_linear(tensors, name + ".attn.qkv", config.dim, 3 * config.dim, generator);
    initialize_linear(tensors, name + ".attn.proj", config.dim, config.dim, generator);
    initialize_layer_norm(tensors, name + ".norm2", config.dim);
    initialize_linear(tensors, name + ".mlp.fc1", config.dim, config.mlp_dim, generator);
    initialize_linear(tensors, name + ".mlp.fc2", config.mlp_dim, config.dim, generator);
  }
  initialize_layer_norm(tensors, norm, config.dim);
}

Grid checked_grid(const at::Tensor& images, int64_t patch_size) {
  // Bytes come as decoders leave them.
  const bool bytes = images.scalar_type() == at::kByte;
  const int64_t first = bytes ? 1 : 2;
  if (images.dim() != 4 || images.size(bytes ? 3 : 1) != 3) {
    throw Error(codes::kInvalidArgument, bytes ? "Images of bytes must be [n, height, width, 3]."
                                               : "Images must be [n, 3, height, width].");
  }
  const int64_t height = images.size(first), width = images.size(first + 1);
  if (height < patch_size || width < patch_size || height % patch_size != 0 || width % patch_size != 0) {
    throw Error(codes::kInvalidArgument,
                "Images of " + std::to_string(height) + " x " + std::to_string(width) +
                    " pixels do not divide into patches of " + std::to_string(patch_size) +
                    "; resize them to multiples of it.");
  }
  return {height / patch_size, width / patch_size};
}

at::Tensor gather_tokens(const at::Tensor& x, const at::Tensor& ids) {
  return gather_tokens(x, at::arange(x.size(0), ids.options()), ids);
}

at::Tensor gather_tokens(const at::Tensor& x, const at::Tensor& row, const at::Tensor& ids) {
  const int64_t tokens = x.size(1), width = x.size(2);
  // Whole rows, which index_select copies in one go; gather would take each value by itself.
  const at::Tensor rows = (ids + row.unsqueeze(1) * tokens).flatten();
  return x.reshape({-1, width}).index_select(0, rows).view({ids.size(0), ids.size(1), width});
}

int64_t total_bytes(const TensorMap& tensors) {
  int64_t bytes = 0;
  for (const auto& entry : tensors) bytes += static_cast<int64_t>(entry.second.nbytes());
  return bytes;
}

}  // namespace ltrp
