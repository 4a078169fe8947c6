// The masked autoencoder: ViT encoder on visible patches, lightweight decoder on all of them (He et al., CVPR
// 2022).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/transformer.h"
#include "kernels/variants.h"

namespace ltrp {

class MaskedAutoencoder {
 public:
  // Takes the weights of a checked checkpoint; `dtype` float32, or float64 for tests and reference results.
  explicit MaskedAutoencoder(const MaeCheckpoint& checkpoint, at::ScalarType dtype = at::kFloat,
                             at::Device device = at::kCPU);
  // Freshly initialised for training, reproducible from `seed`; the same weights on every device.
  static MaskedAutoencoder initialized(const MaeConfig& config, uint64_t seed, at::Device device = at::kCPU);

  const MaeConfig& config() const { return config_; }
  // Canonical name -> weight; the tensors are the model's own (training updates them in place).
  const TensorMap& tensors() const { return tensors_; }
  // For a float32 model that is not trained any more: lays its weights out for fast products.
  void pack();
  // After pack(): lets go of the weights in their old layout. tensors() is incomplete then.
  void drop_unpacked();
  int64_t weight_bytes() const;
  at::ScalarType dtype() const { return dtype_; }
  // Where the weights are, and images have to be.
  at::Device device() const { return device_; }

  // images [n, 3, H, W] normalised, or bytes [n, H, W, 3] that are normalised here with the model's own mean
  // and standard deviation, as everywhere below; H and W multiples of the patch size, any grid (positions are
  // interpolated). visible [n, V] int64 ascending. Returns latents [n, V + 1, D], CLS first, after the final
  // norm. `hidden` [n or n * k, V] bool: true where a visible token is masked in every block's attention as
  // key and as query
  // ("drop = encoder"); with k > 1, latents are returned for n * k variants, image-major.
  at::Tensor encode(const at::Tensor& images, const at::Tensor& visible,
                    const std::optional<at::Tensor>& hidden = {}) const;

  // What goes into the encoder's first block: CLS and the visible patches, embedded, [n, V + 1, D].
  at::Tensor encoder_input(const at::Tensor& images, const at::Tensor& visible) const;

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

  // For engines that share work between decodes: the decoder's blocks and final norm, and the prediction
  // layer that follows (normed tokens [n, T, E] -> [n, T, p * p * 3]). Error(kCheckpointContent) when the
  // checkpoint has no decoder.
  const Transformer& decoder() const;
  const Transformer& encoder() const { return encoder_; }
  const LinearWeights& decoder_embed() const { return decoder_embed_; }
  const LinearWeights& decoder_pred() const { return decoder_pred_; }
  at::Tensor predict(const at::Tensor& normed) const;

  // Grid of a batch [n, 3, H, W]; Error(kInvalidArgument) when the shape does not fit the patch size.
  Grid grid_of(const at::Tensor& images) const;

 private:
  MaskedAutoencoder() = default;
  void bind();
  void require_decoder() const;
  at::Tensor visible_patches(const at::Tensor& images, const at::Tensor& visible) const;

  MaeConfig config_;
  TensorMap tensors_;
  int64_t weight_bytes_ = 0;
  at::ScalarType dtype_ = at::kFloat;
  at::Device device_ = at::kCPU;
  PatchEmbedding patch_embedding_;
  Transformer encoder_;
  LinearWeights decoder_embed_;
  Transformer decoder_;
  LinearWeights decoder_pred_;
};

// Pixels [n, 3, H, W] -> patches [n, L, p * p * 3], values ordered (row, column, channel); the reconstruction
// target.
at::Tensor target_patches(const at::Tensor& images, int64_t patch_size, bool normalized);

}  // namespace ltrp
