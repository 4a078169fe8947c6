#include <algorithm>

#include <ATen/ATen.h>

#include "core/selectors/selectors.h"

namespace ltrp {

// The distance of a patch's mean colour from the mean of those of its neighbours, up to two patches away.
at::Tensor contrast_scores(const SelectorInput& input) {
  constexpr int64_t kReach = 2;
  const int64_t p = input.options.patch_size, rows = input.grid.rows, columns = input.grid.columns;
  const at::Tensor colours = input.pixels().unfold(1, p, p).unfold(2, p, p).mean(at::IntArrayRef{3, 4});
  const at::Tensor scores = at::zeros({rows, columns}, at::kDouble);
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t top = std::max<int64_t>(row - kReach, 0), bottom = std::min(row + kReach + 1, rows);
    for (int64_t column = 0; column < columns; ++column) {
      const int64_t left = std::max<int64_t>(column - kReach, 0),
                    right = std::min(column + kReach + 1, columns);
      const int64_t others = (bottom - top) * (right - left) - 1;
      if (others == 0) continue;
      const at::Tensor own = colours.select(1, row).select(1, column);
      // Differences first: where all colours are equal the score is 0, not what rounding leaves of it.
      const at::Tensor apart = colours.slice(1, top, bottom).slice(2, left, right) - own.view({3, 1, 1});
      scores[row][column] = (apart.sum(at::IntArrayRef{1, 2}) / others).norm();
    }
  }
  return scores.flatten();
}

}  // namespace ltrp
