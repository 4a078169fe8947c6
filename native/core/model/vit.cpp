#include "core/model/vit.h"

#include <ATen/ATen.h>

#include "core/weights/positions.h"
#include "kernels/forward.h"
#include "kernels/pixels.h"

namespace ltrp {

namespace {

// As `dtype` copies of the model's own.
TensorMap converted(const TensorMap& tensors, at::ScalarType dtype, at::Device device,
                    const RunContext& context) {
  TensorMap result;
  for (const auto& [name, tensor] : tensors) {
    context.check();
    result[name] = tensor.to(device, dtype, /*non_blocking=*/false, /*copy=*/true).contiguous();
  }
  return result;
}

}  // namespace

Vit::Vit(const VitConfig& config, const TensorMap& weights, at::ScalarType dtype, at::Device device,
         const RunContext& context, const std::string& norm)
    : config_(config),
      tensors_(converted(weights, dtype, device, context)),
      dtype_(dtype),
      device_(device),
      blocks_(transformer_weights(tensors_, config.encoder, "blocks", norm, config.layer_norm_eps)) {
  const LinearWeights patches = linear_weights(tensors_, "patch_embed.proj");
  patch_embedding_ = {patches.weight, patches.bias, {}};
}

TensorMap Vit::initial_weights(const VitConfig& config, at::Generator& generator, const std::string& norm) {
  TensorMap weights;
  const int64_t dim = config.encoder.dim;
  initialize_linear(weights, "patch_embed.proj", config.patch_values(), dim, generator);
  at::Tensor& projection = weights["patch_embed.proj.weight"];
  projection = projection.view({dim, 3, config.patch_size, config.patch_size});
  initialize_token(weights, "cls_token", dim, generator);
  weights["pos_embed"] = sincos_positions(config.grid(), dim);
  initialize_transformer(weights, config.encoder, "blocks", norm, generator);
  return weights;
}

at::Tensor Vit::positions(const std::string& name, Grid grid) const {
  return resize_positions(tensors_.at(name), config_.grid(), grid);
}

at::Tensor Vit::tokens(const at::Tensor& images, const std::optional<at::Tensor>& visible) const {
  const at::Tensor table = positions("pos_embed", grid_of(images));
  at::Tensor patches, added = table.slice(1, 1);
  if (images.scalar_type() == at::kByte) {
    const RoundedRows rows =
        byte_patch_rows(images.contiguous(), config_.mean, config_.std, config_.patch_size,
                        visible ? visible->contiguous() : at::Tensor(), Precision::kFloat32);
    patches = rows.values.view({images.size(0), -1, config_.patch_values()}).to(dtype_);
  } else if (visible && dtype_ == at::kFloat && images.scalar_type() == at::kFloat &&
             !images.requires_grad()) {
    const RoundedRows rows =
        patch_rows(images.contiguous(), config_.patch_size, visible->contiguous(), Precision::kFloat32);
    patches = rows.values.view({images.size(0), -1, config_.patch_values()});
  } else {
    patches = patchify_channels_first(images.to(dtype_), config_.patch_size);
    if (visible) patches = gather_tokens(patches, *visible);
  }
  if (visible) {
    added = added[0].index_select(0, visible->reshape({-1}));
    added = added.view({visible->size(0), visible->size(1), config_.encoder.dim});
  }
  const at::Tensor embedded = patch_embedding_(patches) + added;
  const at::Tensor cls = tensors_.at("cls_token") + table.slice(1, 0, 1);
  return at::cat({cls.expand({embedded.size(0), 1, -1}), embedded}, 1);
}

at::Tensor Vit::forward(const at::Tensor& images, const std::optional<at::Tensor>& visible,
                        const std::optional<at::Tensor>& hidden) const {
  const at::Tensor in = tokens(images, visible);
  // Token 0 is CLS.
  return hidden ? blocks_.forward(in, *hidden + 1) : blocks_.forward(in);
}

at::Tensor Vit::read(const at::Tensor& images, const std::optional<at::Tensor>& visible,
                     const TokenReader& reader, const at::Tensor& scales) const {
  const at::Tensor in = tokens(images, visible);
  return reader.read(reader.first_only ? blocks_.forward_first(in, scales) : blocks_.forward(in, {}, scales));
}

at::Tensor Vit::token_table(Grid grid) const {
  const at::Tensor table = positions("pos_embed", grid);
  return at::cat({tensors_.at("cls_token") + table.slice(1, 0, 1), table.slice(1, 1)}, 1).squeeze(0);
}

void Vit::pack(const RunContext& context) {
  patch_embedding_.pack();
  blocks_.pack(context);
}

void Vit::drop_unpacked(bool all) {
  if (all || patch_embedding_.packed.defined()) patch_embedding_.weight.reset();
  blocks_.drop_unpacked(all);
  // What nobody but the map holds any more is in use in another layout.
  std::erase_if(tensors_, [](const auto& entry) {
    return entry.second.use_count() == 1 && entry.first.ends_with(".weight");
  });
}

}  // namespace ltrp
