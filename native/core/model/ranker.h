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
  explicit PatchRanker(const RankerCheckpoint& checkpoint, at::ScalarType dtype = at::kFloat);
  static PatchRanker initialized(const RankerConfig& config, uint64_t seed);

  const RankerConfig& config() const { return config_; }
  const TensorMap& tensors() const { return tensors_; }
  int64_t weight_bytes() const;

  // images [n, 3, H, W] normalised -> logits [n, L]. With `visible` [n, V] int64 ascending only those patches
  // go in; a token head then leaves the other slots at 0. A CLS head works on its own grid only:
  // Error(kInvalidArgument) otherwise.
  at::Tensor forward(const at::Tensor& images, const std::optional<at::Tensor>& visible = {}) const;

  Grid grid_of(const at::Tensor& images) const;

 private:
  PatchRanker() = default;
  void bind();

  RankerConfig config_;
  TensorMap tensors_;
  at::ScalarType dtype_ = at::kFloat;
  PatchEmbedding patch_embedding_;
  Transformer encoder_;
  LinearWeights head_;
};

}  // namespace ltrp
