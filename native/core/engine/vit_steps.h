// The ViT of an opened model a step at a time, for who looks at what is between the steps: attention, keys,
// gradients. Float32, on the model's device, where images and tokens have to be.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/engine/inference.h"
#include "core/model/vit.h"

namespace ltrp {

// softmax(q k^T / sqrt(d) + key_bias): the attention probabilities [n, heads, Q, T] of qkv [n, T, 3 * dim].
// `first_only`: of the first token's query. `key_bias` [n, T] is added for every query.
at::Tensor attention_probabilities(const at::Tensor& qkv, int64_t heads, bool first_only,
                                   const at::Tensor& key_bias = {});

class VitSteps {
 public:
  // The model must live as long. A Vit's weights are whole or packed.
  explicit VitSteps(const Vit& vit) : vit_(&vit), config_(vit.config()) {}
  explicit VitSteps(const InferenceVit& vit) : inference_(&vit), config_(vit.config()) {}

  const VitConfig& config() const { return config_; }
  int64_t depth() const { return config_.encoder.depth; }
  int64_t heads() const { return config_.encoder.heads; }

  // CLS and patches as they go into the first block, [n, 1 + L, dim]; images as for Vit.
  at::Tensor tokens(const at::Tensor& images) const;
  // The steps of a block: q, k and v side by side, [n, T, 3 * dim]; the concatenated heads; the sums after
  // the attention and after the MLP.
  at::Tensor project_qkv(int64_t block, const at::Tensor& tokens) const;
  at::Tensor attend(int64_t block, const at::Tensor& qkv) const;
  at::Tensor add_attended(int64_t block, const at::Tensor& tokens, const at::Tensor& attended) const;
  at::Tensor add_mlp(int64_t block, const at::Tensor& tokens) const;
  // All of them, of the blocks [begin, end).
  at::Tensor forward(at::Tensor tokens, int64_t begin, int64_t end) const;

  // A block that can be differentiated through: its weights in their own layout.
  TransformerBlock unpacked(int64_t block) const;
  // The norm after the last block; one without weights is the identity.
  LayerNormWeights final_norm() const;

 private:
  const TransformerBlock& block(int64_t index) const {
    return vit_->blocks().blocks[static_cast<size_t>(index)];
  }

  const Vit* vit_ = nullptr;  // one of these
  const InferenceVit* inference_ = nullptr;
  VitConfig config_;
};

}  // namespace ltrp
