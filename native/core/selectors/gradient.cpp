#include <ATen/ATen.h>

#include "core/selectors/selectors.h"

namespace ltrp {

// The mean length of the luma's gradient, by differences over two pixels, clamped at the image's border.
at::Tensor gradient_scores(const SelectorInput& input) {
  const at::Tensor pixels = input.pixels();
  const at::Tensor luma = 0.299 * pixels[0] + 0.587 * pixels[1] + 0.114 * pixels[2];
  const auto difference = [&](int64_t dim) {
    const int64_t size = luma.size(dim);
    const at::Tensor place = at::arange(size, at::kLong);
    return luma.index_select(dim, (place + 1).clamp_max(size - 1)) -
           luma.index_select(dim, (place - 1).clamp_min(0));
  };
  const int64_t p = input.options.patch_size;
  return at::hypot(difference(1), difference(0))
      .unfold(0, p, p)
      .unfold(1, p, p)
      .mean(at::IntArrayRef{2, 3})
      .flatten();
}

}  // namespace ltrp
