#include "core/engine/score_map.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>

#include "core/engine/finite.h"
#include "core/engine/masking.h"
#include "core/engine/surprise.h"
#include "core/random.h"

namespace ltrp {

namespace {

// Masks of one round for one image: [ceil(L / V), V] ascending ids. Every patch appears at least once.
at::Tensor masks_of_round(int64_t patches, int64_t visible, uint64_t seed, uint64_t stream) {
  const at::Tensor order =
      at::empty({patches}, at::kFloat).uniform_(0, 1, generator_for(seed, stream)).argsort();
  const int64_t masks = (patches + visible - 1) / visible;
  // The last mask takes what is left and is filled up from the front of the same permutation, which it does
  // not hold yet.
  const at::Tensor cyclic = at::cat({order, order.slice(0, 0, masks * visible - patches)});
  return std::get<0>(cyclic.view({masks, visible}).sort(1));
}

}  // namespace

ScoreMap score_map(const Teacher& teacher, const at::Tensor& images, const ScoreMapOptions& options,
                   const RunContext& context) {
  check_in(closed(1, 1'000'000), "rounds", static_cast<double>(options.rounds));
  const Grid grid = teacher.model().grid_of(images);
  const int64_t n = images.size(0), patches = grid.patches();
  const int64_t visible = visible_count(patches, options.mask_ratio);
  const int64_t masks_per_round = (patches + visible - 1) / visible;
  const int64_t variants = n * options.rounds * masks_per_round * visible;

  at::Tensor count = at::zeros({n, patches}, at::kDouble);
  at::Tensor sum = at::zeros({n, patches}, at::kDouble);
  at::Tensor squares = at::zeros({n, patches}, at::kDouble);
  at::Tensor hidden = at::zeros({n, patches}, at::kDouble), surprise = at::zeros({n, patches}, at::kDouble);
  int64_t done = 0;
  for (int64_t image = 0; image < n; ++image) {
    for (int64_t round = 0; round < options.rounds; ++round) {
      const at::Tensor ids = masks_of_round(
          patches, visible, mix_seed(options.seed, static_cast<uint64_t>(options.first_image + image)),
          static_cast<uint64_t>(round));
      const at::Tensor batch = images.slice(0, image, image + 1).expand({masks_per_round, -1, -1, -1});
      const RunContext inner = context.offset(done, variants);
      const at::Tensor metric = leave_one_out_metric(teacher, batch, ids, options.scores, inner);
      check_finite_result(metric.view({1, -1}), "scores", image);
      const at::Tensor scores = scores_of(metric, options.scores.metric).to(at::kDouble).reshape({-1});
      const at::Tensor flat_ids = ids.reshape({-1});
      count[image].scatter_add_(0, flat_ids, at::ones_like(scores));
      sum[image].scatter_add_(0, flat_ids, scores);
      squares[image].scatter_add_(0, flat_ids, scores.square());
      if (options.surprise) {
        const at::Tensor found = edge_surprise(teacher.model(), batch, ids, inner.without_progress());
        hidden[image] += found.isnan().logical_not().sum(0);
        surprise[image] += found.nansum(0);
      }
      done += masks_per_round * visible;
    }
  }
  if (options.surprise && hidden.eq(0).any().item<bool>()) {
    invalid("surprise needs every patch hidden once: more rounds, or a larger maskRatio.");
  }
  const at::Tensor factor = options.surprise ? surprise / hidden : at::ones_like(sum);
  const at::Tensor mean = sum / count;
  // Sample variance of the scores over the masks, divided by their number; 0 / 0 is NaN, as documented for
  // one mask.
  const at::Tensor variance = (squares - count * mean.square()).clamp_min(0) / (count - 1);
  const at::Tensor error = (variance / count).sqrt();
  const auto finish = [&](const at::Tensor& x) {
    return x.to(teacher.model().dtype()).view({n, grid.rows, grid.columns});
  };
  return {finish(mean * factor), finish(error * factor)};
}

}  // namespace ltrp
