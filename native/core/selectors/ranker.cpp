#include <ATen/ATen.h>

#include <vector>

#include "core/engine/selection.h"
#include "core/selectors/selectors.h"

namespace ltrp {
namespace {

const InferenceRanker& ranker_of(const SelectorOptions& options) {
  return *std::get<std::shared_ptr<const InferenceRanker>>(options.model);
}

}  // namespace

// The ranker's logits.
at::Tensor ranker_scores(const at::Tensor& images, const SelectorOptions& options,
                         const RunContext& context) {
  return ranker_of(options).logits(images, {}, context);
}

// The paper's selection (section 3.3): most by the ranker's logits, the others from clusters of pixels.
// Those that it keeps come first, by logit.
at::Tensor ranker_diverse_scores(const at::Tensor& images, const SelectorOptions& options,
                                 const RunContext& context) {
  const at::Tensor logits = ranker_of(options).logits(images, {}, context);
  SelectionOptions selection;
  selection.keep = options.keep;
  selection.patch_size = options.patch_size;
  selection.score_share = kCompatScoreShare;
  selection.seed = options.seed;
  selection.first_image = options.first_image;
  selection.mean = options.mean;
  selection.std = options.std;
  const at::Tensor kept = select_patches(images, logits, selection, context.without_progress());
  const at::Tensor order = logits.argsort(/*stable=*/true, /*dim=*/1, /*descending=*/true);
  const at::Tensor first = at::zeros_like(logits).scatter_(1, kept, 1).gather(1, order);
  std::vector<at::Tensor> scores;
  for (int64_t i = 0; i < logits.size(0); ++i) {
    const at::Tensor kept_first = first[i].argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
    scores.push_back(scores_of_order(order[i].index_select(0, kept_first)));
  }
  return at::stack(scores);
}

}  // namespace ltrp
