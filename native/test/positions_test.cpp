#include "core/weights/positions.h"

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"

using namespace ltrp;

namespace {

double cubic_weight(double distance) {
  constexpr double a = -0.75;
  const double x = std::fabs(distance);
  if (x <= 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  if (x < 2) return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a;
  return 0;
}

// One row of the resized table, straight from the definition. [D] float64.
at::Tensor interpolated(const at::Tensor& table, Grid from, Grid to, int64_t row, int64_t column) {
  const at::Tensor patches = table[0].slice(0, 1).to(at::kDouble).reshape({from.rows, from.columns, -1});
  const double y = (row + 0.5) * static_cast<double>(from.rows) / static_cast<double>(to.rows) - 0.5;
  const double x = (column + 0.5) * static_cast<double>(from.columns) / static_cast<double>(to.columns) - 0.5;
  at::Tensor sum = at::zeros({patches.size(2)}, at::kDouble);
  for (auto i = static_cast<int64_t>(std::floor(y)) - 1; i <= std::floor(y) + 2; ++i) {
    for (auto j = static_cast<int64_t>(std::floor(x)) - 1; j <= std::floor(x) + 2; ++j) {
      const int64_t source_row = std::clamp<int64_t>(i, 0, from.rows - 1);
      const int64_t source_column = std::clamp<int64_t>(j, 0, from.columns - 1);
      sum += cubic_weight(y - static_cast<double>(i)) * cubic_weight(x - static_cast<double>(j)) *
             patches[source_row][source_column];
    }
  }
  return sum;
}

}  // namespace

TEST_CASE("the sin-cos table has w first, a zero CLS row and frequencies in float64") {
  const Grid grid{3, 5};
  const int64_t dim = 16;
  const at::Tensor table = sincos_positions(grid, dim);
  REQUIRE(table.sizes().vec() == std::vector<int64_t>{1, 16, dim});
  CHECK(table[0][0].abs().max().item<float>() == 0.0f);
  for (int64_t row = 0; row < grid.rows; ++row) {
    for (int64_t column = 0; column < grid.columns; ++column) {
      const at::Tensor position = table[0][1 + row * grid.columns + column];
      for (int64_t k = 0; k < 4; ++k) {
        const double omega = 1.0 / std::pow(10000.0, k / 4.0);
        CHECK(position[k].item<float>() == static_cast<float>(std::sin(column * omega)));
        CHECK(position[4 + k].item<float>() == static_cast<float>(std::cos(column * omega)));
        CHECK(position[8 + k].item<float>() == static_cast<float>(std::sin(row * omega)));
        CHECK(position[12 + k].item<float>() == static_cast<float>(std::cos(row * omega)));
      }
    }
  }
}

TEST_CASE("impossible position tables are refused") {
  CHECK_THROWS_AS(sincos_positions({2, 2}, 6), Error);
  CHECK_THROWS_AS(sincos_positions({0, 2}, 8), Error);
  const at::Tensor table = sincos_positions({2, 2}, 8);
  CHECK_THROWS_AS(resize_positions(table, {3, 2}, {4, 4}), Error);
  CHECK_THROWS_AS(resize_positions(table, {2, 2}, {0, 4}), Error);
}

TEST_CASE("resizing keeps CLS, leaves equal grids alone and is bicubic") {
  const at::Tensor table = at::rand({1, 1 + 14 * 14, 8});
  CHECK(resize_positions(table, {14, 14}, {14, 14}).is_same(table));

  const at::Tensor resized = resize_positions(table, {14, 14}, {9, 20});
  REQUIRE(resized.sizes().vec() == std::vector<int64_t>{1, 181, 8});
  CHECK(at::equal(resized[0][0], table[0][0]));

  // Against the definition, in float64: cubic convolution with a = -0.75, border rows and columns repeated.
  for (const auto& [row, column] : {std::pair{0, 0}, {4, 10}, {8, 19}, {2, 7}}) {
    const at::Tensor expected = interpolated(table, {14, 14}, {9, 20}, row, column);
    CHECK(at::allclose(resized[0][1 + row * 20 + column].to(at::kDouble), expected, 0, 1e-5));
  }
}

TEST_CASE("tables of other dtypes are resized in their dtype") {
  const at::Tensor table = sincos_positions({4, 4}, 8).to(at::kDouble);
  CHECK((resize_positions(table, {4, 4}, {6, 5}).scalar_type() == at::kDouble));
}
