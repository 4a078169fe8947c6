#include <algorithm>
#include <cmath>

#include <ATen/ATen.h>

#include "core/selectors/selectors.h"

namespace ltrp {

// `keep` patches spread evenly over R rows, those with a score of 1; the others have 0.
at::Tensor grid_scores(const SelectorInput& input) {
  const int64_t keep = input.options.keep, rows = input.grid.rows, columns = input.grid.columns;
  const double even = std::sqrt(static_cast<double>(keep * rows) / static_cast<double>(columns));
  const int64_t fewest = (keep + columns - 1) / columns;
  const int64_t used =
      std::min(rows, std::max({fewest, static_cast<int64_t>(std::floor(even + 0.5)), int64_t{1}}));
  const at::Tensor scores = at::zeros({rows, columns}, at::kDouble);
  // floor((i + 0.5) cells / count), in integers.
  const auto place = [](int64_t i, int64_t cells, int64_t count) {
    return (2 * i + 1) * cells / (2 * count);
  };
  for (int64_t i = 0; i < used; ++i) {
    const int64_t count = (i + 1) * keep / used - i * keep / used;
    for (int64_t j = 0; j < count; ++j) scores[place(i, rows, used)][place(j, columns, count)] = 1;
  }
  return scores.flatten();
}

}  // namespace ltrp
