// Where a picture's high ranks lie together (docs/squeeze.md).
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/run_context.h"

namespace ltrp {

struct RegionOptions {
  int64_t count = 1;             // regions, at most
  double keep_ratio = 0.25;      // share of the patches that regions are made of
  double padding = 0;            // on each side, of the region's own side
  std::optional<double> aspect;  // width / height; without: as it comes
};

// Error(kInvalidArgument).
void validate(const RegionOptions& options);

struct Region {
  std::array<int64_t, 4> box{};  // left, top, width, height in pixels
  // Sum of the ranks in it (the best patch: as many as are kept) by that of all, in (0, 1].
  double weight = 0;
};

// logits [rows, columns] of a whole picture of these sides. The patches with the highest logits (ties: the
// lower id) are joined with their neighbours above, below, left and right; regions come by falling weight.
std::vector<Region> dense_regions(const at::Tensor& logits, int64_t height, int64_t width,
                                  const RegionOptions& options, const RunContext& context);

}  // namespace ltrp
