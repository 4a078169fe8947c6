#include "core/weights/positions.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/upsample_bicubic2d.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "core/error.h"

namespace ltrp {
namespace {

void check_grid(Grid grid, const char* what) {
  if (grid.rows <= 0 || grid.columns <= 0) {
    throw Error(codes::kInvalidArgument,
                std::string(what) + " must have at least one row and one column of patches, but is " +
                    std::to_string(grid.rows) + " x " + std::to_string(grid.columns) + ".");
  }
}

}  // namespace

at::Tensor sincos_positions(Grid grid, int64_t dim) {
  check_grid(grid, "The grid of a sin-cos position table");
  if (dim <= 0 || dim % 4 != 0) {
    throw Error(codes::kInvalidArgument,
                "A sin-cos position table needs a width that is a positive multiple of 4, not " +
                    std::to_string(dim) + ".");
  }
  const int64_t quarter = dim / 4;
  std::vector<double> omega(quarter);
  for (int64_t k = 0; k < quarter; ++k) {
    omega[k] = 1.0 / std::pow(10000.0, static_cast<double>(k) / static_cast<double>(quarter));
  }
  // One row of values for each place along a side; a patch has that of its column and that of its row.
  const auto side = [&](int64_t places) {
    std::vector<float> values(static_cast<size_t>(places * 2 * quarter));
    for (int64_t place = 0; place < places; ++place) {
      float* row = values.data() + place * 2 * quarter;
      for (int64_t k = 0; k < quarter; ++k) {
        const double angle = static_cast<double>(place) * omega[k];
        row[k] = static_cast<float>(std::sin(angle));
        row[quarter + k] = static_cast<float>(std::cos(angle));
      }
    }
    return values;
  };
  const std::vector<float> across = side(grid.columns), down = side(grid.rows);
  at::Tensor table = at::zeros({1, 1 + grid.patches(), dim}, at::kFloat);
  float* row = table.data_ptr<float>() + dim;  // after CLS
  for (int64_t y = 0; y < grid.rows; ++y) {
    for (int64_t x = 0; x < grid.columns; ++x, row += dim) {
      std::copy_n(across.data() + x * 2 * quarter, 2 * quarter, row);
      std::copy_n(down.data() + y * 2 * quarter, 2 * quarter, row + 2 * quarter);
    }
  }
  return table;
}

at::Tensor resize_positions(const at::Tensor& table, Grid from, Grid to) {
  check_grid(from, "The grid of a position table");
  check_grid(to, "The grid to resize a position table to");
  if (table.dim() != 3 || table.size(0) != 1 || table.size(1) != 1 + from.patches()) {
    throw Error(codes::kInvalidArgument,
                "A position table for " + std::to_string(from.rows) + " x " + std::to_string(from.columns) +
                    " patches must have the shape [1, " + std::to_string(1 + from.patches()) + ", D].");
  }
  if (from == to) return table;
  const int64_t dim = table.size(2);
  const at::Tensor patches = table.narrow(1, 1, from.patches())
                                 .reshape({1, from.rows, from.columns, dim})
                                 .permute({0, 3, 1, 2})
                                 .contiguous();
  const at::Tensor resized = at::upsample_bicubic2d(patches, {to.rows, to.columns}, /*align_corners=*/false);
  return at::cat({table.narrow(1, 0, 1), resized.permute({0, 2, 3, 1}).reshape({1, to.patches(), dim})}, 1);
}

}  // namespace ltrp
