#include <ATen/ATen.h>

#include "core/selectors/selectors.h"

namespace ltrp {

// Attention rollout (Abnar and Zuidema 2020): the product of (mean over heads + identity) / 2 over the
// blocks, the last one on the left; the CLS token's row, or the mean of the patches' where a head pools them.
// Costs a forward pass and a [T, T] product a block.
at::Tensor rollout_scores(const SelectorInput& input) {
  const VitSteps vit = input.steps();
  at::Tensor tokens = vit.tokens(input.on_device());
  const at::Tensor identity = at::eye(tokens.size(1), tokens.options());
  at::Tensor product = identity;
  for (int64_t block = 0; block < vit.depth(); ++block) {
    input.context.check();
    const at::Tensor qkv = vit.project_qkv(block, tokens);
    const at::Tensor mean = attention_probabilities(qkv, vit.heads(), /*first_only=*/false).mean(1)[0];
    const at::Tensor mixed = (mean + identity) / 2;
    product = at::matmul(mixed / mixed.sum(-1, /*keepdim=*/true), product);
    if (block + 1 == vit.depth()) break;
    tokens = vit.add_mlp(block, vit.add_attended(block, tokens, vit.attend(block, qkv)));
  }
  const at::Tensor read = pools_patches(input.options.model) ? product.slice(0, 1).mean(0) : product[0];
  return read.slice(0, 1);
}

}  // namespace ltrp
