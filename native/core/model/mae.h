// The masked autoencoder: ViT encoder on visible patches, lightweight decoder on all of them (He et al., CVPR
// 2022).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>
#include <vector>

#include "core/model/decoder_input.h"
#include "core/model/vit.h"
#include "core/weights/kind.h"

namespace ltrp {

struct MaeConfig : VitConfig {
  std::optional<TransformerConfig> decoder;  // absent in encoder-only checkpoints (mae_pretrain_*.pth)
  bool normalized_target = false;            // trained on per-patch normalised pixels
  bool operator==(const MaeConfig&) const = default;

  static const ModelKind kind;
  template <typename Self, typename Visit>
  static void each(Self& c, Visit&& visit) {
    VitConfig::each(c, visit);
    visit("decoder", c.decoder);
    visit("normalized_target", c.normalized_target);
  }
  static void each_tensor(MaeConfig& c, TensorVisitor& visit);
  void recognise(Evidence& file);
  std::optional<Lacking> lacking() const;
};
using MaeCheckpoint = Checkpoint<MaeConfig>;

class MaskedAutoencoder {
 public:
  // Takes the weights of a checked checkpoint; see Vit.
  explicit MaskedAutoencoder(const MaeCheckpoint& checkpoint, at::ScalarType dtype = at::kFloat,
                             at::Device device = at::kCPU, const RunContext& context = {});
  // Freshly initialised for training, reproducible from `seed`; the same weights on every device.
  static MaskedAutoencoder initialized(const MaeConfig& config, uint64_t seed, at::Device device = at::kCPU);

  const MaeConfig& config() const { return config_; }
  const Vit& vit() const { return vit_; }
  // Encoder and decoder, for trainers.
  std::vector<Transformer*> transformers() { return {&vit_.blocks(), &decoder_}; }
  const TensorMap& tensors() const { return vit_.tensors(); }
  at::ScalarType dtype() const { return vit_.dtype(); }
  at::Device device() const { return vit_.device(); }
  Grid grid_of(const at::Tensor& images) const { return vit_.grid_of(images); }
  // See Vit.
  void pack(const RunContext& context = {});
  void drop_unpacked();
  // Of the weights as they were loaded.
  int64_t weight_bytes() const { return weight_bytes_; }

  // Latents [n, V + 1, D] of the visible patches, CLS first: Vit::forward().
  at::Tensor encode(const at::Tensor& images, const at::Tensor& visible,
                    const std::optional<at::Tensor>& hidden = {}) const {
    return vit_.forward(images, visible, hidden);
  }

  // latents [n, V + 1, D] -> decoder input [n, L + 1, E]: embedded, unshuffled over mask tokens, positions
  // added.
  at::Tensor decoder_input(const at::Tensor& latents, const at::Tensor& visible, Grid grid) const;

  // What decoder_input() puts embedded latents between, for engines that put them there themselves.
  DecoderTokens decoder_tokens(const at::Tensor& visible, Grid grid) const;

  // tokens [n, T, E] -> predictions [n, T - 1, p * p * 3] of the tokens after CLS.
  at::Tensor decode(const at::Tensor& tokens) const;

  // Predictions at `query_ids` [n, Q] (token ids, CLS is 0) only: tokens [n, T, E] -> [n, Q, p * p * 3]. In
  // the last block the other tokens serve as keys and values alone. `first_qkv` [n, T, 3E] saves the first
  // block's projection when it is known.
  at::Tensor decode_at(at::Tensor tokens, const at::Tensor& query_ids,
                       const std::optional<at::Tensor>& first_qkv = {}) const;

  // All of it: predictions [n, L, p * p * 3] in target space, values ordered (row, column, channel).
  at::Tensor reconstruct(const at::Tensor& images, const at::Tensor& visible) const;

  // For engines that share work between decodes: the decoder's blocks and final norm, what comes before them
  // and the prediction layer that follows. Error(kCheckpointContent) when the checkpoint has no decoder.
  const Transformer& decoder() const;
  const LinearWeights& decoder_embed() const { return decoder_embed_; }
  const LinearWeights& decoder_pred() const { return decoder_pred_; }

 private:
  MaeConfig config_;
  Vit vit_;
  int64_t weight_bytes_;
  LinearWeights decoder_embed_;
  Transformer decoder_;
  LinearWeights decoder_pred_;
};

// Pixels [n, 3, H, W] -> patches [n, L, p * p * 3], values ordered (row, column, channel); the reconstruction
// target.
at::Tensor target_patches(const at::Tensor& images, int64_t patch_size, bool normalized);

}  // namespace ltrp
