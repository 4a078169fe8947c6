#include <ATen/ATen.h>

#include "core/engine/score_map.h"
#include "core/selectors/selectors.h"

namespace ltrp {

// The masked autoencoder's own scores, mean over random masks: what rankers learn. Costs a decoder pass for
// every visible patch of every mask, some hundred forward passes.
at::Tensor teacher_scores(const at::Tensor& images, const SelectorOptions& options,
                          const RunContext& context) {
  ScoreMapOptions map;
  map.seed = options.seed;
  map.first_image = options.first_image;
  return score_map(*std::get<std::shared_ptr<const Teacher>>(options.model), images, map, context)
      .mean.flatten(1);
}

}  // namespace ltrp
