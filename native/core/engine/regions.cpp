#include "core/engine/regions.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/check.h"
#include "core/engine/masking.h"
#include "core/engine/ordering.h"

namespace ltrp {

namespace {

// Patches of one region: rows and columns from, to (exclusive).
struct Extent {
  int64_t top, left, bottom, right;
  double weight = 0;
};

// One side of a box in pixels: moved into [0, limit], or cut to it.
void fit(double& begin, double& length, double limit) {
  length = std::min(length, limit);
  begin = std::clamp(begin, 0.0, limit - length);
}

std::array<int64_t, 4> box_of(const Extent& extent, double patch_height, double patch_width, int64_t height,
                              int64_t width, const RegionOptions& options) {
  double left = static_cast<double>(extent.left) * patch_width,
         top = static_cast<double>(extent.top) * patch_height;
  double w = static_cast<double>(extent.right) * patch_width - left,
         h = static_cast<double>(extent.bottom) * patch_height - top;
  const auto grow = [](double& begin, double& length, double to) {
    begin -= (to - length) / 2;
    length = to;
  };
  grow(left, w, w * (1 + 2 * options.padding));
  grow(top, h, h * (1 + 2 * options.padding));
  const auto full_width = static_cast<double>(width), full_height = static_cast<double>(height);
  if (options.aspect) {
    // The smallest box of that aspect around it, or the largest that the picture has.
    const double aspect = *options.aspect;
    const double wanted = std::min({std::max(h, w / aspect), full_height, full_width / aspect});
    grow(left, w, wanted * aspect);
    grow(top, h, wanted);
  }
  fit(left, w, full_width);
  fit(top, h, full_height);
  const auto side = [](double begin, double length, int64_t limit) {
    const int64_t pixels = std::clamp<int64_t>(std::llround(length), 1, limit);
    return std::pair{std::clamp<int64_t>(std::llround(begin), 0, limit - pixels), pixels};
  };
  const auto [x, across] = side(left, w, width);
  const auto [y, down] = side(top, h, height);
  return {x, y, across, down};
}

}  // namespace

void validate(const RegionOptions& options) {
  check_in(closed(1, 1024), "count", static_cast<double>(options.count));
  check_in({0, 1, /*low_open=*/true}, "keepRatio", options.keep_ratio);
  check_in(closed(0, 10), "padding", options.padding);
  if (options.aspect) check_in(closed(0.01, 100), "aspect", *options.aspect);
}

std::vector<Region> dense_regions(const at::Tensor& logits, int64_t height, int64_t width,
                                  const RegionOptions& options, const RunContext& context) {
  const int64_t rows = logits.size(0), columns = logits.size(1), patches = rows * columns;
  const at::Tensor flat = logits.contiguous().flatten();
  const float* logit = flat.const_data_ptr<float>();
  std::vector<int64_t> order = sorted_indices(
      patches, [&](int64_t i, int64_t j) { return logit[i] > logit[j]; }, context);
  order.resize(static_cast<size_t>(kept_patches(patches, options.keep_ratio)));
  while (!order.empty() && logit[order.back()] == -std::numeric_limits<float>::infinity()) order.pop_back();
  if (order.empty()) invalid("ranking.logits must rank at least one patch, but all are -Infinity.");
  // Rank among the kept: the best has as many as there are, the last has 1.
  std::vector<int64_t> rank(static_cast<size_t>(patches));
  for (size_t place = 0; place < order.size(); ++place)
    rank[static_cast<size_t>(order[place])] = static_cast<int64_t>(order.size() - place);
  std::vector<Extent> extents;
  std::vector<int64_t> reached;
  double all = 0;
  for (const int64_t start : order) {
    if (rank[static_cast<size_t>(start)] == 0) continue;
    context.check();
    Extent extent{rows, columns, 0, 0};
    const auto take = [&](int64_t patch) {
      int64_t& value = rank[static_cast<size_t>(patch)];
      if (value == 0) return;
      extent.weight += static_cast<double>(value);
      value = 0;
      reached.push_back(patch);
    };
    take(start);
    while (!reached.empty()) {
      const int64_t patch = reached.back(), row = patch / columns, column = patch % columns;
      reached.pop_back();
      extent = {std::min(extent.top, row), std::min(extent.left, column), std::max(extent.bottom, row + 1),
                std::max(extent.right, column + 1), extent.weight};
      if (row > 0) take(patch - columns);
      if (row + 1 < rows) take(patch + columns);
      if (column > 0) take(patch - 1);
      if (column + 1 < columns) take(patch + 1);
    }
    all += extent.weight;
    extents.push_back(extent);
  }
  std::stable_sort(extents.begin(), extents.end(),
                   [](const Extent& a, const Extent& b) { return a.weight > b.weight; });
  extents.resize(std::min(extents.size(), static_cast<size_t>(options.count)));
  std::vector<Region> regions;
  for (const Extent& extent : extents) {
    regions.push_back(
        {box_of(extent, static_cast<double>(height) / static_cast<double>(rows),
                static_cast<double>(width) / static_cast<double>(columns), height, width, options),
         extent.weight / all});
  }
  return regions;
}

}  // namespace ltrp
