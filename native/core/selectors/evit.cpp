#include <ATen/ATen.h>

#include <cmath>
#include <set>
#include <vector>

#include "core/selectors/selectors.h"

namespace ltrp {

// EViT's criterion (Liang et al. 2022): after the attention of three blocks only those patches go on that the
// CLS token attends to most, mean over heads. The same share stays each time, so that about K are left at the
// end. The patches that went are not fused into one: it would compete for a place. Costs less than a forward
// pass.
at::Tensor evit_scores(const SelectorInput& input) {
  const VitSteps vit = input.steps();
  const int64_t depth = vit.depth(), patches = input.grid.patches();
  const std::set<int64_t> stages{depth / 4, depth / 2, 3 * depth / 4};
  const double share = std::pow(static_cast<double>(input.options.keep) / static_cast<double>(patches),
                                1.0 / static_cast<double>(stages.size()));
  at::Tensor tokens = vit.tokens(input.on_device()), alive = at::arange(patches, at::kLong);
  std::vector<at::Tensor> order;  // those that go last first
  for (int64_t block = 0;; ++block) {
    input.context.check();
    const at::Tensor qkv = vit.project_qkv(block, tokens);
    if (!stages.contains(block)) {
      tokens = vit.add_mlp(block, vit.add_attended(block, tokens, vit.attend(block, qkv)));
      continue;
    }
    const at::Tensor attention =
        attention_probabilities(qkv, vit.heads(), /*first_only=*/true).mean(1).flatten().slice(0, 1);
    const at::Tensor falling =
        attention.to(at::kCPU).argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
    if (block == *stages.rbegin()) {
      order.insert(order.begin(), alive.index_select(0, falling));
      return scores_of_order(at::cat(order));
    }
    const auto stay = static_cast<int64_t>(std::ceil(share * static_cast<double>(alive.numel()) - 1e-9));
    order.insert(order.begin(), alive.index_select(0, falling.slice(0, stay)));
    // In raster order, so that of equal patches the lower stays in the next stage too.
    const at::Tensor staying = std::get<0>(falling.slice(0, 0, stay).sort());
    alive = alive.index_select(0, staying);
    const at::Tensor rows = at::cat({at::zeros({1}, at::kLong), staying + 1});
    tokens = vit.add_attended(block, tokens, vit.attend(block, qkv));
    tokens = vit.add_mlp(block, tokens.index_select(1, rows.to(tokens.device())));
  }
}

}  // namespace ltrp
