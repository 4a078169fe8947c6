#include <ATen/ATen.h>

#include "core/selectors/selectors.h"

namespace ltrp {

// The population variance of a patch's pixels, summed over the colours.
at::Tensor variance_scores(const SelectorInput& input) {
  const int64_t p = input.options.patch_size;
  return input.pixels()
      .unfold(1, p, p)
      .unfold(2, p, p)
      .var(at::IntArrayRef{3, 4}, /*unbiased=*/false)
      .sum(0)
      .flatten();
}

}  // namespace ltrp
