#include <ATen/ATen.h>

#include "core/selectors/selectors.h"

namespace ltrp {

// What the CLS token of the last block attends to, mean over heads: of a classifier (Caron et al. 2021 look
// at it so) and of a masked autoencoder's encoder. All blocks but half of the last are computed.
at::Tensor cls_attention_scores(const SelectorInput& input) {
  const VitSteps vit = input.steps();
  const int64_t last = vit.depth() - 1;
  const at::Tensor tokens = vit.forward(vit.tokens(input.on_device()), 0, last);
  return attention_probabilities(vit.project_qkv(last, tokens), vit.heads(), /*first_only=*/true)
      .mean(1)
      .flatten()
      .slice(0, 1);
}

}  // namespace ltrp
