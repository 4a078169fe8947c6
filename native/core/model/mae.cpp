#include "core/model/mae.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/random.h"
#include "core/weights/positions.h"
#include "kernels/pixels.h"

namespace ltrp {

const ModelKind MaeConfig::kind{
    "mae", "an autoencoder", {Content::kAutoencoder, Content::kEncoder}, /*hugging_face=*/true};

void MaeConfig::each_tensor(MaeConfig& c, TensorVisitor& visit) {
  VitConfig::each_tensor(c, visit);
  visit.layer("norm", {&c.encoder.dim});
  if (!visit.has(c.decoder.has_value(), {"decoder_embed", "mask_token", "decoder_pos_embed", "decoder_norm",
                                         "decoder_pred", "decoder_blocks."})) {
    return;
  }
  if (!c.decoder) c.decoder.emplace();
  int64_t* dim = &c.decoder->dim;
  visit.layer("decoder_embed", {dim, &c.encoder.dim});
  visit.tensor("mask_token", {1, 1, dim});
  visit.positions("decoder_pos_embed", dim);
  visit.transformer("decoder_blocks.", *c.decoder);
  visit.layer("decoder_norm", {dim});
  visit.layer("decoder_pred", {c.patch_values(), dim});
}

void MaeConfig::recognise(Evidence& file) {
  const std::optional<bool> said = file.truth("norm_pix_loss");
  normalized_target = said.value_or(normalized_target);
  if (!said && file.has("decoder_pred")) {
    file.note(
        "Nothing says whether it predicts pixels normalised per patch (norm_pix_loss), as "
        "mae_pretrain_*_full files do: it is taken as not doing so, and normalizedTarget says otherwise.");
  }
}

std::optional<Lacking> MaeConfig::lacking() const {
  if (decoder) return std::nullopt;
  return Lacking{
      "holds an encoder alone, as mae_pretrain_vit_base.pth and Hugging Face's ViTMAEModel do: it has no "
      "decoder and can neither reconstruct nor score; take one with a decoder, as "
      "mae_visualize_vit_base.pth or ViTMAEForPreTraining",
      "It is an encoder alone, as mae_pretrain_*.pth: it can encode, but neither reconstruct nor score."};
}

MaskedAutoencoder::MaskedAutoencoder(const MaeCheckpoint& checkpoint, at::ScalarType dtype, at::Device device,
                                     const RunContext& context)
    : config_(validate(checkpoint.config)),
      vit_(config_, checkpoint.tensors, dtype, device, context),
      weight_bytes_(total_bytes(tensors())) {
  if (!config_.decoder) return;
  decoder_embed_ = linear_weights(tensors(), "decoder_embed");
  decoder_ = transformer_weights(tensors(), *config_.decoder, "decoder_blocks", "decoder_norm",
                                 config_.layer_norm_eps);
  decoder_pred_ = linear_weights(tensors(), "decoder_pred");
}

MaskedAutoencoder MaskedAutoencoder::initialized(const MaeConfig& config, uint64_t seed, at::Device device) {
  validate(config);
  at::Generator generator = generator_for(seed, 0);
  TensorMap weights = Vit::initial_weights(config, generator);
  if (config.decoder) {
    const int64_t dim = config.decoder->dim;
    initialize_linear(weights, "decoder_embed", config.encoder.dim, dim, generator);
    initialize_token(weights, "mask_token", dim, generator);
    weights["decoder_pos_embed"] = sincos_positions(config.grid(), dim);
    initialize_transformer(weights, *config.decoder, "decoder_blocks", "decoder_norm", generator);
    initialize_linear(weights, "decoder_pred", dim, config.patch_values(), generator);
  }
  return MaskedAutoencoder({config, std::move(weights), "ltrp"}, at::kFloat, device);
}

void MaskedAutoencoder::pack(const RunContext& context) {
  vit_.pack(context);
  if (!config_.decoder) return;
  decoder_.pack(context);
  decoder_embed_.pack();
  decoder_pred_.pack();
}

void MaskedAutoencoder::drop_unpacked() {
  decoder_.drop_unpacked();
  for (LinearWeights* linear : {&decoder_embed_, &decoder_pred_}) {
    if (linear->packed.defined()) linear->weight.reset();
  }
  vit_.drop_unpacked();
}

at::Tensor MaskedAutoencoder::decoder_input(const at::Tensor& latents, const at::Tensor& visible,
                                            Grid grid) const {
  const DecoderTokens tokens = decoder_tokens(visible, grid);
  return ltrp::decoder_input(tokens, decoder_embed_(latents));
}

DecoderTokens MaskedAutoencoder::decoder_tokens(const at::Tensor& visible, Grid grid) const {
  decoder();
  return {visible, tensors().at("mask_token"), vit_.positions("decoder_pos_embed", grid)};
}

at::Tensor MaskedAutoencoder::decode(const at::Tensor& tokens) const {
  return decoder_pred_(decoder().forward(tokens).slice(1, 1));
}

at::Tensor MaskedAutoencoder::decode_at(at::Tensor tokens, const at::Tensor& query_ids,
                                        const std::optional<at::Tensor>& first_qkv) const {
  return decoder_pred_(decoder().forward_at(std::move(tokens), query_ids, first_qkv));
}

at::Tensor MaskedAutoencoder::reconstruct(const at::Tensor& images, const at::Tensor& visible) const {
  return decode(decoder_input(encode(images, visible), visible, grid_of(images)));
}

const Transformer& MaskedAutoencoder::decoder() const {
  if (!config_.decoder) {
    throw Error(codes::kCheckpointContent,
                "This checkpoint has an encoder only (as mae_pretrain_*.pth); reconstructing and scoring "
                "need one with a "
                "decoder, such as mae_visualize_*.pth.");
  }
  return decoder_;
}

at::Tensor target_patches(const at::Tensor& images, int64_t patch_size, bool normalized) {
  const at::Tensor patches = patchify_channels_last(images, patch_size);
  if (!normalized) return patches;
  // In two passes of vectors: at::var_mean takes one value at a time.
  const at::Tensor centred = patches - patches.mean(-1, /*keepdim=*/true);
  const at::Tensor variance =
      centred.square().sum(-1, /*keepdim=*/true) / static_cast<double>(patches.size(-1) - 1);
  return centred / (variance + 1e-6).sqrt();
}

}  // namespace ltrp
