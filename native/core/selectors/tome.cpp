#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/selectors/selectors.h"

namespace ltrp {
namespace {

// The tokens on their way through the blocks.
struct Merged {
  at::Tensor tokens;  // [1, T, D], CLS first
  at::Tensor sizes;   // [T] float32: how many tokens each stands for
  at::Tensor roots;   // [T] int64: its patch; -1 for CLS
};

// The `count` even tokens that are most like an odd one become part of that one. Keys [T, E].
Merged merge(const Merged& from, const at::Tensor& keys, int64_t count) {
  const at::Tensor normed = keys / keys.norm(2, {-1}, /*keepdim=*/true);
  at::Tensor likeness = at::matmul(normed.slice(0, 0, {}, 2), normed.slice(0, 1, {}, 2).t());
  likeness.select(0, 0).fill_(-std::numeric_limits<float>::infinity());  // CLS stays
  const auto [best, partner] = likeness.max(-1);
  const at::Tensor order = best.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  const at::Tensor gone = order.slice(0, 0, count), stay = std::get<0>(order.slice(0, count).sort());
  const at::Tensor into = partner.index_select(0, gone);
  const at::Tensor weighted = from.tokens[0] * from.sizes.unsqueeze(1);
  const auto joined = [&](const at::Tensor& values) {
    const at::Tensor even = values.slice(0, 0, {}, 2), odd = values.slice(0, 1, {}, 2);
    return at::cat({even.index_select(0, stay), odd.index_add(0, into, even.index_select(0, gone))});
  };
  Merged result;
  result.sizes = joined(from.sizes);
  result.tokens = (joined(weighted) / result.sizes.unsqueeze(1)).unsqueeze(0);
  result.roots =
      at::cat({from.roots.slice(0, 0, {}, 2).index_select(0, stay), from.roots.slice(0, 1, {}, 2)});
  return result;
}

// Whether attention is weighted by the groups' sizes: the authors have it so for supervised models, but not
// for masked autoencoders and what is fine-tuned from them, which pools the patches.
bool is_proportional(const SelectorModel& model) {
  const auto* classifier = std::get_if<std::shared_ptr<const OpenClassifier>>(&model);
  if (classifier == nullptr) return false;
  const ClassifierConfig& config = (*classifier)->config();
  return config.classes > 0 && config.pooling != Pooling::kMean;
}

}  // namespace

// Token merging (Bolya et al. 2023) as a selector: in every block the tokens with the most similar keys are
// merged, until K groups remain; each is represented by the patch that the others were merged into. Where
// the blocks are too few to come down to K, the larger groups come first. Costs less than a forward pass.
at::Tensor tome_scores(const SelectorInput& input) {
  const VitSteps vit = input.steps();
  const bool proportional = is_proportional(input.options.model);
  const int64_t patches = input.grid.patches();
  Merged now;
  now.tokens = vit.tokens(input.on_device());
  now.sizes = at::ones({patches + 1}, now.tokens.options());
  now.roots = at::arange(-1, patches, now.tokens.options().dtype(at::kLong));
  int64_t left = patches - input.options.keep;
  for (int64_t block = 0; block < vit.depth() && left > 0; ++block) {
    input.context.check();
    const int64_t count = now.sizes.numel(), blocks = vit.depth() - block;
    const int64_t merges = std::min((left + blocks - 1) / blocks, (count - 1) / 2);
    const at::Tensor qkv = vit.project_qkv(block, now.tokens);
    const at::Tensor by_head = qkv.view({count, 3, vit.heads(), -1});
    at::Tensor attended;
    if (proportional) {
      const at::Tensor weights =
          attention_probabilities(qkv, vit.heads(), /*first_only=*/false, now.sizes.log())[0];
      attended =
          at::matmul(weights, by_head.select(1, 2).transpose(0, 1)).transpose(0, 1).reshape({1, count, -1});
    } else {
      attended = vit.attend(block, qkv);
    }
    now.tokens = vit.add_attended(block, now.tokens, attended);
    now = merge(now, by_head.select(1, 1).mean(1), merges);
    left -= merges;
    now.tokens = vit.add_mlp(block, now.tokens);
  }
  const at::Tensor groups = now.roots.ge(0);
  return at::zeros({patches}, now.sizes.options())
      .index_copy_(0, now.roots.masked_select(groups), now.sizes.masked_select(groups));
}

}  // namespace ltrp
