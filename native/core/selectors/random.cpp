#include "core/random.h"

#include <ATen/ATen.h>

#include "core/selectors/selectors.h"

namespace ltrp {

// Uniform noise.
at::Tensor random_scores(const SelectorInput& input) {
  return at::empty({input.grid.patches()}, at::kFloat)
      .uniform_(0, 1, generator_for(input.options.seed, static_cast<uint64_t>(input.image)));
}

}  // namespace ltrp
