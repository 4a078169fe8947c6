#include <ATen/ATen.h>

#include "core/selectors/selectors.h"

namespace ltrp {

// What the CLS token of the last block attends to, mean over heads: of a classifier (Caron et al. 2021 look
// at it so) and of a masked autoencoder's encoder. Where the head pools the patches, what a patch receives:
// the mean over all queries, the CLS token's among them. All blocks but half of the last are computed.
at::Tensor cls_attention_scores(const SelectorInput& input) {
  const VitSteps vit = input.steps();
  const int64_t last = vit.depth() - 1;
  const at::Tensor tokens = vit.forward(vit.tokens(input.on_device()), 0, last);
  const bool pooled = pools_patches(input.options.model);
  return attention_probabilities(vit.project_qkv(last, tokens), vit.heads(), /*first_only=*/!pooled)
      .mean(at::IntArrayRef{1, 2})[0]
      .slice(0, 1);
}

}  // namespace ltrp
