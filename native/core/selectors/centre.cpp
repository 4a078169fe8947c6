#include <ATen/ATen.h>

#include "core/selectors/selectors.h"

namespace ltrp {

at::Tensor centre_scores(const SelectorInput& input) {
  const auto distances = [](int64_t cells) {
    return at::arange(cells, at::kDouble) - static_cast<double>(cells - 1) / 2;
  };
  const at::Tensor down = distances(input.grid.rows).unsqueeze(1), across = distances(input.grid.columns);
  return -(down * down + across * across).sqrt().flatten();
}

}  // namespace ltrp
