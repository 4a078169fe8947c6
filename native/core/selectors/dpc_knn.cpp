#include <ATen/ATen.h>

#include "core/engine/density_peaks.h"
#include "core/random.h"
#include "core/selectors/selectors.h"

namespace ltrp {

// How good a centre a patch's normalised pixels are (Du et al. 2016), which the selection for diversity asks,
// too; the K highest are the centres of K clusters. Costs the distances between all patches.
at::Tensor dpc_knn_scores(const SelectorInput& input) {
  const uint64_t seed = mix_seed(input.options.seed, static_cast<uint64_t>(input.image));
  const at::Tensor noise =
      at::empty({input.grid.patches()}, at::kFloat).uniform_(0, 1, generator_for(seed, 0));
  return density_peak_scores(input.patches().to(at::kDouble), noise, [&] { input.context.check(); });
}

}  // namespace ltrp
