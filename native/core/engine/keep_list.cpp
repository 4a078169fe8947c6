#include "core/engine/keep_list.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/engine/ordering.h"

namespace ltrp {

namespace {

constexpr double kNothing = -std::numeric_limits<double>::infinity();

// Shares of a cell's side below this are rounding, not overlap.
constexpr double kLeastShare = 1e-9;

// (rank - 1) / (ranked - 1), ties at the mean of their ranks; NaN for patches that are not ranked.
std::vector<double> normalized_ranks(const at::Tensor& logits, const RunContext& context) {
  const at::Tensor flat = logits.contiguous().flatten();
  const float* logit = flat.const_data_ptr<float>();
  std::vector<double> ranks(static_cast<size_t>(flat.numel()), std::nan(""));
  const std::vector<int64_t> ranked = ranked_patches(logit, flat.numel());
  if (ranked.empty()) invalid("ranking.logits must rank at least one patch, but all are -Infinity.");
  const auto last = static_cast<double>(std::max<size_t>(ranked.size() - 1, 1));
  for_mean_places(
      ranked, logit, [&](int64_t id, double rank) { ranks[static_cast<size_t>(id)] = rank / last; }, context);
  return ranks;
}

// What of the ranking's rows (or columns) lies under one row of cells: shares of the cell's side.
struct Overlap {
  int64_t first = 0;
  std::vector<double> shares;
};

// An axis of `count` equal steps.
struct Axis {
  double begin, step;
  int64_t count;
};

std::vector<Overlap> overlaps(const Axis& cells, const Axis& ranked) {
  std::vector<Overlap> result(static_cast<size_t>(cells.count));
  // In steps of the ranking: where both are the same axis, exact integers.
  const double offset = (cells.begin - ranked.begin) / ranked.step, side = cells.step / ranked.step;
  const auto last = static_cast<double>(ranked.count);
  for (int64_t i = 0; i < cells.count; ++i) {
    const double from = offset + static_cast<double>(i) * side,
                 to = offset + static_cast<double>(i + 1) * side;
    Overlap& overlap = result[static_cast<size_t>(i)];
    overlap.first = static_cast<int64_t>(std::clamp(std::floor(from), 0.0, last));
    const auto end = static_cast<int64_t>(std::clamp(std::ceil(to), 0.0, last));
    for (int64_t j = overlap.first; j < end; ++j) {
      const double common = std::min(to, static_cast<double>(j + 1)) - std::max(from, static_cast<double>(j));
      const double share = common / (to - from);
      overlap.shares.push_back(share > kLeastShare ? share : 0);
    }
  }
  return result;
}

double mean_rank(const Overlap& rows, const Overlap& columns, const std::vector<double>& ranks,
                 int64_t width) {
  double sum = 0, weights = 0;
  for (size_t y = 0; y < rows.shares.size(); ++y) {
    const auto row = static_cast<size_t>((rows.first + static_cast<int64_t>(y)) * width + columns.first);
    for (size_t x = 0; x < columns.shares.size(); ++x) {
      const double rank = ranks[row + x], weight = rows.shares[y] * columns.shares[x];
      if (weight == 0 || std::isnan(rank)) continue;
      sum += weight * rank;
      weights += weight;
    }
  }
  return weights > 0 ? sum / weights : kNothing;
}

// The view of the whole input, of which the mask's rectangle shows `encoder.view`.
View without_padding(const EncoderGrid& encoder) {
  const at::Tensor mask = encoder.pixel_mask.ne(0);
  const at::Tensor rows = mask.any(1).nonzero(), columns = mask.any(0).nonzero();
  const auto side = [](const at::Tensor& ids) {
    return ids.numel() == 0 ? 0 : (ids[-1] - ids[0]).item<int64_t>() + 1;
  };
  const int64_t height = side(rows), width = side(columns), pixels = mask.sum().item<int64_t>();
  if (pixels == 0 || pixels != height * width) {
    invalid("target.pixelMask must mark a rectangle; " + std::to_string(pixels) + " pixels in " +
            std::to_string(height) + " rows and " + std::to_string(width) + " columns are none.");
  }
  const View& view = encoder.view;
  const double down = view.height / static_cast<double>(height),
               across = view.width / static_cast<double>(width);
  return {view.left - columns[0].item<double>() * across, view.top - rows[0].item<double>() * down,
          encoder.input_width * across, encoder.input_height * down};
}

int64_t quantized(double value) {
  return value == kNothing ? std::numeric_limits<int64_t>::min() : std::llround(value * 1e9);
}

int64_t long_side(int64_t short_side, double longer, double shorter) {
  return static_cast<int64_t>(static_cast<double>(short_side) * longer / shorter);
}

double centre(int64_t outer, int64_t inner, CropRounding rounding) {
  const double half = static_cast<double>(outer - inner) / 2;
  return rounding == CropRounding::kFloor ? std::floor(half) : std::nearbyint(half);
}

}  // namespace

void validate(const View& view, const std::string& name) {
  constexpr double most = 4294967296;
  check_in(closed(-most, most), name + ".left", view.left);
  check_in(closed(-most, most), name + ".top", view.top);
  check_in({1e-6, most}, name + ".width", view.width);
  check_in({1e-6, most}, name + ".height", view.height);
}

View view_of(const CentreCrop& crop, double height, double width) {
  const bool upright = height > width;
  const double resized_height =
                   static_cast<double>(upright ? long_side(crop.short_side, height, width) : crop.short_side),
               resized_width =
                   static_cast<double>(upright ? crop.short_side : long_side(crop.short_side, width, height));
  const double down = height / resized_height, across = width / resized_width;
  const double left = centre(static_cast<int64_t>(resized_width), crop.width, crop.rounding),
               top = centre(static_cast<int64_t>(resized_height), crop.height, crop.rounding);
  return {left * across, top * down, static_cast<double>(crop.width) * across,
          static_cast<double>(crop.height) * down};
}

void validate(const EncoderGrid& encoder) {
  const auto [rows, columns] = encoder.patches;
  const std::string sides = std::to_string(rows) + " x " + std::to_string(columns);
  check_in(closed(1, static_cast<double>(kMostCells)), "target's number of patches",
           static_cast<double>(rows) * static_cast<double>(columns));
  check_in(closed(1, 64), "target.merge", static_cast<double>(encoder.merge));
  if (rows % encoder.merge != 0 || columns % encoder.merge != 0) {
    invalid("target.merge must divide the grid of " + sides + " patches; got " +
            std::to_string(encoder.merge) + ".");
  }
}

void keep_list(const at::Tensor& logits, const View& view, const EncoderGrid& encoder, const KeepList& result,
               const RunContext& context) {
  const View input = encoder.pixel_mask.defined() ? without_padding(encoder) : encoder.view;
  const int64_t height = logits.size(0), width = logits.size(1), merge = encoder.merge;
  const Grid cells = encoder.cells();
  const std::vector<double> ranks = normalized_ranks(logits, context);
  const double side = encoder.patch_size * static_cast<double>(merge);
  const auto rows = overlaps({input.top, input.height * side / encoder.input_height, cells.rows},
                             {view.top, view.height / static_cast<double>(height), height});
  const auto columns = overlaps({input.left, input.width * side / encoder.input_width, cells.columns},
                                {view.left, view.width / static_cast<double>(width), width});
  auto* values = result.values.mutable_data_ptr<double>();
  bool found = false;
  for (int64_t row = 0; row < cells.rows; ++row) {
    context.check();
    for (int64_t column = 0; column < cells.columns; ++column) {
      const double value =
          mean_rank(rows[static_cast<size_t>(row)], columns[static_cast<size_t>(column)], ranks, width);
      values[row * cells.columns + column] = value;
      found = found || value != kNothing;
    }
  }
  if (!found) invalid("target.view must have a ranked patch in it; ranking.view lies elsewhere.");

  std::vector<int64_t> order = sorted_indices(
      cells.patches(), [&](int64_t i, int64_t j) { return quantized(values[i]) > quantized(values[j]); },
      context);
  order.resize(static_cast<size_t>(result.cells.numel()));
  std::sort(order.begin(), order.end());
  result.mask.zero_();
  auto* kept = result.cells.mutable_data_ptr<int32_t>();
  auto* ids = result.ids.mutable_data_ptr<int32_t>();
  auto* positions = result.positions.mutable_data_ptr<int32_t>();
  auto* mask = result.mask.mutable_data_ptr<int32_t>();
  for (const int64_t cell : order) {
    *kept++ = static_cast<int32_t>(cell);
    // Block-major, as the merger joins them; of single patches that is raster order.
    for (int64_t patch = 0; patch < merge * merge; ++patch) {
      const int64_t id = cell * merge * merge + patch;
      *ids++ = static_cast<int32_t>(id);
      *positions++ = static_cast<int32_t>(cell / cells.columns * merge + patch / merge);
      *positions++ = static_cast<int32_t>(cell % cells.columns * merge + patch % merge);
      mask[id] = 1;
    }
  }
}

}  // namespace ltrp
