#include "core/model/mae.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/model/positions.h"
#include "core/random.h"
#include "kernels/pixels.h"

namespace ltrp {

namespace {

// Positions of one grid out of the table of another, in the table's dtype.
at::Tensor positions_for(const at::Tensor& table, Grid from, Grid to) {
  return from == to ? table : resize_positions(table, from, to);
}

}  // namespace

MaskedAutoencoder::MaskedAutoencoder(const MaeCheckpoint& checkpoint, at::ScalarType dtype, at::Device device)
    : config_(checkpoint.config),
      tensors_(converted(checkpoint.tensors, dtype, device)),
      dtype_(dtype),
      device_(device) {
  validate(config_);
  bind();
}

MaskedAutoencoder MaskedAutoencoder::initialized(const MaeConfig& config, uint64_t seed, at::Device device) {
  validate(config);
  at::Generator generator = generator_for(seed, 0);
  MaskedAutoencoder model;
  model.config_ = config;
  TensorMap& tensors = model.tensors_;
  initialize_patch_embedding(tensors, "patch_embed.proj", config.patch_size, config.encoder.dim, generator);
  initialize_token(tensors, "cls_token", config.encoder.dim, generator);
  tensors["pos_embed"] = sincos_positions(config.grid(), config.encoder.dim);
  initialize_blocks(tensors, config.encoder, "blocks", generator);
  initialize_layer_norm(tensors, "norm", config.encoder.dim);
  if (config.decoder) {
    initialize_linear(tensors, "decoder_embed", config.encoder.dim, config.decoder->dim, generator);
    initialize_token(tensors, "mask_token", config.decoder->dim, generator);
    tensors["decoder_pos_embed"] = sincos_positions(config.grid(), config.decoder->dim);
    initialize_blocks(tensors, *config.decoder, "decoder_blocks", generator);
    initialize_layer_norm(tensors, "decoder_norm", config.decoder->dim);
    initialize_linear(tensors, "decoder_pred", config.decoder->dim, config.patch_values(), generator);
  }
  model.device_ = device;
  if (!device.is_cpu()) tensors = converted(tensors, at::kFloat, device);
  model.bind();
  return model;
}

void MaskedAutoencoder::bind() {
  weight_bytes_ = total_bytes(tensors_);
  const LinearWeights patches = linear_weights(tensors_, "patch_embed.proj");
  patch_embedding_ = {patches.weight, patches.bias, {}};
  encoder_ = transformer_weights(tensors_, config_.encoder, "blocks", "norm", config_.layer_norm_eps);
  if (config_.decoder) {
    decoder_embed_ = linear_weights(tensors_, "decoder_embed");
    decoder_ = transformer_weights(tensors_, *config_.decoder, "decoder_blocks", "decoder_norm",
                                   config_.layer_norm_eps);
    decoder_pred_ = linear_weights(tensors_, "decoder_pred");
  }
}

int64_t MaskedAutoencoder::weight_bytes() const { return weight_bytes_; }

Grid MaskedAutoencoder::grid_of(const at::Tensor& images) const {
  return checked_grid(images, config_.patch_size);
}

// [n, V, 3 * p * p], as the patch projection reads them.
at::Tensor MaskedAutoencoder::visible_patches(const at::Tensor& images, const at::Tensor& visible) const {
  if (images.scalar_type() != at::kByte) {
    return gather_tokens(patchify_channels_first(images.to(dtype_), config_.patch_size), visible);
  }
  const RoundedRows rows = byte_patch_rows(images.contiguous(), config_.mean, config_.std, config_.patch_size,
                                           visible.contiguous(), Precision::kFloat32);
  return rows.values.view({visible.size(0), visible.size(1), -1}).to(dtype_);
}

at::Tensor MaskedAutoencoder::encoder_input(const at::Tensor& images, const at::Tensor& visible) const {
  const Grid grid = grid_of(images);
  const at::Tensor positions = positions_for(tensors_.at("pos_embed"), config_.grid(), grid);
  const at::Tensor patches = visible_patches(images, visible);
  const at::Tensor visible_positions = positions[0].slice(0, 1).index_select(0, visible.reshape({-1}));
  const at::Tensor tokens = patch_embedding_(patches) +
                            visible_positions.view({visible.size(0), visible.size(1), config_.encoder.dim});
  const at::Tensor cls =
      (tensors_.at("cls_token") + positions.slice(1, 0, 1)).expand({tokens.size(0), 1, -1});
  return at::cat({cls, tokens}, 1);
}

at::Tensor MaskedAutoencoder::encode(const at::Tensor& images, const at::Tensor& visible,
                                     const std::optional<at::Tensor>& hidden) const {
  at::Tensor tokens = encoder_input(images, visible);
  if (!hidden) return encoder_.forward(tokens);

  TORCH_CHECK(hidden->size(0) % tokens.size(0) == 0 && hidden->size(1) == visible.size(1),
              "hidden must be [n * k, V]");
  tokens = tokens.repeat_interleave(hidden->size(0) / tokens.size(0), 0);
  // CLS is never hidden.
  return encoder_.forward(tokens, at::constant_pad_nd(*hidden, {1, 0}, false));
}

void MaskedAutoencoder::pack() {
  patch_embedding_.pack();
  encoder_.pack();
  decoder_.pack();
  if (config_.decoder) {
    decoder_embed_.pack();
    decoder_pred_.pack();
  }
}

void MaskedAutoencoder::drop_unpacked() {
  patch_embedding_.drop_unpacked();
  encoder_.drop_unpacked();
  decoder_.drop_unpacked();
  for (LinearWeights* linear : {&decoder_embed_, &decoder_pred_}) {
    if (linear->packed.defined()) linear->weight.reset();
  }
  drop_unused_weights(tensors_);
}

at::Tensor MaskedAutoencoder::decoder_input(const at::Tensor& latents, const at::Tensor& visible,
                                            Grid grid) const {
  const DecoderTokens tokens = decoder_tokens(visible, grid);
  return ltrp::decoder_input(tokens, decoder_embed_(latents));
}

DecoderTokens MaskedAutoencoder::decoder_tokens(const at::Tensor& visible, Grid grid) const {
  require_decoder();
  return {visible, tensors_.at("mask_token"),
          positions_for(tensors_.at("decoder_pos_embed"), config_.grid(), grid)};
}

at::Tensor MaskedAutoencoder::decode(const at::Tensor& tokens) const {
  require_decoder();
  return decoder_pred_(decoder_.forward(tokens).slice(1, 1));
}

at::Tensor MaskedAutoencoder::decode_at(at::Tensor tokens, const at::Tensor& query_ids,
                                        const std::optional<at::Tensor>& first_qkv) const {
  require_decoder();
  for (size_t i = 0; i < decoder_.blocks.size(); ++i) {
    const TransformerBlock& block = decoder_.blocks[i];
    const at::Tensor qkv = i == 0 && first_qkv ? *first_qkv : block.project_qkv(tokens);
    const bool last = i + 1 == decoder_.blocks.size();
    const at::Tensor attended = last ? block.attend(qkv, query_ids) : block.attend(qkv);
    if (last) tokens = gather_tokens(tokens, query_ids);
    tokens = block.finish(tokens, attended);
  }
  return decoder_pred_(decoder_.norm(tokens));
}

at::Tensor MaskedAutoencoder::reconstruct(const at::Tensor& images, const at::Tensor& visible) const {
  return decode(decoder_input(encode(images, visible), visible, grid_of(images)));
}

const Transformer& MaskedAutoencoder::decoder() const {
  require_decoder();
  return decoder_;
}

at::Tensor MaskedAutoencoder::predict(const at::Tensor& normed) const { return decoder_pred_(normed); }

void MaskedAutoencoder::require_decoder() const {
  if (!config_.decoder) {
    throw Error(codes::kCheckpointContent,
                "This checkpoint has an encoder only (as mae_pretrain_*.pth); reconstructing and scoring "
                "need one with a "
                "decoder, such as mae_visualize_*.pth.");
  }
}

at::Tensor target_patches(const at::Tensor& images, int64_t patch_size, bool normalized) {
  const at::Tensor patches = patchify_channels_last(images, patch_size);
  if (!normalized) return patches;
  const auto [variance, mean] =
      at::var_mean(patches, at::OptionalIntArrayRef({-1}), /*correction=*/1, /*keepdim=*/true);
  return (patches - mean) / (variance + 1e-6).sqrt();
}

}  // namespace ltrp
