// The ranking model: a ViT that gives every patch a logit (method section 3).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "core/checkpoint/checkpoint.h"
#include "core/model/config.h"
#include "core/model/transformer.h"

namespace ltrp {

class PatchRanker {
 public:
  explicit PatchRanker(const RankerCheckpoint& checkpoint, at::ScalarType dtype = at::kFloat,
                       at::Device device = at::kCPU);
  // Freshly initialised for training; the same weights from a seed on every device.
  static PatchRanker initialized(const RankerConfig& config, uint64_t seed, at::Device device = at::kCPU);

  const RankerConfig& config() const { return config_; }
  const TensorMap& tensors() const { return tensors_; }
  // Where the weights are, and images have to be.
  at::Device device() const { return device_; }
  // For engines that hold the weights of the patch projection and of the blocks in a layout of their own:
  // lets go of these. forward() cannot be called any more, and tensors() is incomplete.
  void drop_products();
  int64_t weight_bytes() const { return total_bytes(tensors_); }

  // images [n, 3, H, W] normalised -> logits [n, L]. With `visible` [n, V] int64 ascending only those patches
  // go in; a token head then leaves the other slots at 0. A CLS head works on its own grid only:
  // Error(kInvalidArgument) otherwise.
  at::Tensor forward(const at::Tensor& images, const std::optional<at::Tensor>& visible = {}) const;

  Grid grid_of(const at::Tensor& images) const;

  // For engines that take the model apart. What the patches of a grid are added to, CLS first: the CLS token
  // and every position, [1 + L, D].
  at::Tensor token_table(Grid grid) const;
  const PatchEmbedding& patch_embedding() const { return patch_embedding_; }
  const Transformer& encoder() const { return encoder_; }
  // Tokens [n, T, D] after the final norm -> logits: [n, T - 1] of a token head, [n, L] of a CLS head, which
  // reads the first token only.
  at::Tensor read_out(const at::Tensor& normed) const;
  // The head on rows that it reads, [R, D] -> [R, 1] of a token head, [R, L] of a CLS head.
  at::Tensor head_logits(const at::Tensor& rows) const { return head_(rows); }

 private:
  PatchRanker() = default;
  void bind();

  RankerConfig config_;
  TensorMap tensors_;
  at::ScalarType dtype_ = at::kFloat;
  at::Device device_ = at::kCPU;
  PatchEmbedding patch_embedding_;
  Transformer encoder_;
  LinearWeights head_;
};

}  // namespace ltrp
