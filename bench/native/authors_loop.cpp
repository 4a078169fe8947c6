#include "authors_loop.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/core/grad_mode.h>

#include <cmath>
#include <limits>

#include "core/error.h"

namespace ltrp::bench {

namespace {

// tokens [n, T, E], hidden [n, T] bool or undefined -> concatenated heads [n, T, E].
at::Tensor explicit_attention(const TransformerBlock& block, const at::Tensor& tokens,
                              const at::Tensor& hidden) {
  const int64_t n = tokens.size(0), count = tokens.size(1), dim = tokens.size(2);
  const int64_t head_dim = dim / block.heads;
  const at::Tensor qkv =
      block.project_qkv(tokens).reshape({n, count, 3, block.heads, head_dim}).permute({2, 0, 3, 1, 4});
  const double scale = 1 / std::sqrt(static_cast<double>(head_dim));
  at::Tensor attention = at::matmul(qkv[0], qkv[1].transpose(-2, -1)) * scale;
  if (hidden.defined()) {
    attention =
        attention.masked_fill(hidden.view({n, 1, 1, count}), -std::numeric_limits<double>::infinity());
  }
  attention = attention.softmax(-1);
  if (hidden.defined()) attention = attention.masked_fill(hidden.view({n, 1, count, 1}), 0);
  return at::matmul(attention, qkv[2]).transpose(1, 2).reshape({n, count, dim});
}

}  // namespace

LoopPrecision parse_loop_precision(const std::string& name) {
  if (name == "float32") return LoopPrecision::kFloat32;
  if (name == "float16") return LoopPrecision::kFloat16;
  if (name == "bfloat16") return LoopPrecision::kBFloat16;
  throw Error(codes::kInvalidArgument,
              "'precision' must be float32, float16 or bfloat16, not '" + name + "'.");
}

LoopAutocast::LoopAutocast(LoopPrecision precision, at::DeviceType device)
    : active_(precision != LoopPrecision::kFloat32), device_(device) {
  if (!active_) return;
  at::autocast::set_autocast_dtype(device_, precision == LoopPrecision::kFloat16 ? at::kHalf : at::kBFloat16);
  at::autocast::set_autocast_enabled(device_, true);
}

LoopAutocast::~LoopAutocast() {
  if (!active_) return;
  at::autocast::set_autocast_enabled(device_, false);
  at::autocast::clear_cache();
}

void keep_conversions(const TensorMap& weights) {
  for (const auto& entry : weights) entry.second.set_requires_grad(true);
}

AuthorsLoop::AuthorsLoop(const MaskedAutoencoder& model) : model_(model) {
  model.decoder();  // refuses a checkpoint without one
  keep_conversions(model.tensors());
}

at::Tensor AuthorsLoop::decode(at::Tensor tokens, const at::Tensor& removed) const {
  at::Tensor hidden;
  if (removed.defined()) {
    hidden = at::zeros({tokens.size(0), tokens.size(1)}, removed.options().dtype(at::kBool))
                 .scatter_(1, removed.unsqueeze(1), true);
  }
  for (const TransformerBlock& block : model_.decoder().blocks) {
    tokens = block.finish(tokens, explicit_attention(block, tokens, hidden));
  }
  return model_.decoder_pred()(model_.decoder().norm(tokens)).slice(1, 1).to(at::kFloat);
}

at::Tensor AuthorsLoop::scores(const at::Tensor& images, const at::Tensor& visible, int64_t variants,
                               LoopPrecision precision) const {
  const at::NoGradGuard no_grad;
  const LoopAutocast autocast(precision, images.device().type());
  const Grid grid = model_.grid_of(images);
  const at::Tensor tokens = model_.decoder_input(model_.encode(images, visible), visible, grid);
  const at::Tensor masked =
      at::ones({images.size(0), grid.patches()}, images.options()).scatter_(1, visible, 0.0);
  const at::Tensor anchor = decode(tokens, {});
  std::vector<at::Tensor> columns;
  for (int64_t slot = 0; slot < variants; ++slot) {
    const at::Tensor changed = decode(tokens, visible.select(1, slot) + 1);
    const at::Tensor difference = (anchor - changed).abs().mean(-1);
    columns.push_back((difference * masked).sum(-1) / masked.sum(-1));
  }
  return at::stack(columns, 1);
}

}  // namespace ltrp::bench
