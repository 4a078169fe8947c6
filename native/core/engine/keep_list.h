// From a ranking to the patches that another encoder keeps (docs/keep.md).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/names.h"
#include "core/run_context.h"
#include "core/weights/config.h"

namespace ltrp {

// Cells and tokens of one picture, at most.
constexpr int64_t kMostCells = int64_t{1} << 20;

// The part of a picture that a grid covers, in pixels of the picture. It may reach beyond the picture, where
// an encoder pads.
struct View {
  double left = 0, top = 0, width = 0, height = 0;
};

// Where the centre of an odd difference begins.
enum class CropRounding { kFloor, kEven };
template <>
struct Names<CropRounding> {
  static constexpr Named<CropRounding> all[] = {{CropRounding::kFloor, "floor"},
                                                {CropRounding::kEven, "even"}};
};

// A picture's short side is resized to so many pixels, its long side by the same factor, rounded down; then
// the centre is cut out.
struct CentreCrop {
  int64_t short_side = 0, height = 0, width = 0;
  CropRounding rounding = CropRounding::kFloor;
};

// Error(kInvalidArgument), with `name` in front of the field, unless all are finite and of a picture's
// magnitude, the sides above 0.
void validate(const View& view, const std::string& name);

// The part of a picture of these sides that such a crop shows.
View view_of(const CentreCrop& crop, double height, double width);

struct EncoderGrid {
  Grid patches;
  int64_t merge = 1;  // cells of merge x merge patches are kept or dropped whole
  // Sides of the input and of a patch in pixels; the last patches may leave pixels over.
  double input_height = 0, input_width = 0, patch_size = 0;
  int64_t tokens = 0;       // rows of the input: the patches, then padding
  View view;                // of the input, or of what `pixel_mask` leaves of it
  at::Tensor pixel_mask{};  // [input_height, input_width] uint8, not 0 where the picture is: a rectangle; or
                            // undefined

  Grid cells() const { return {patches.rows / merge, patches.columns / merge}; }
};

// Error(kInvalidArgument) unless `merge` divides the grid and the numbers are in range.
void validate(const EncoderGrid& encoder);

// Where results go; all arrays are there before the work begins.
struct KeepList {
  at::Tensor values;     // [cells] float64: area-weighted mean of the normalised ranks under the cell
  at::Tensor cells;      // [K] int32, raster order
  at::Tensor ids;        // [K * merge^2] int32: rows of the input
  at::Tensor positions;  // [K * merge^2, 2] int32: row, column of the patch
  at::Tensor mask;       // [tokens] int32: 1 where kept
};

// logits [rows, columns] of the ranking's grid, which covers `view`; -infinity: the patch is not ranked.
// K = the length of result.cells. Values equal to 9 decimals are ties, which the lower index wins; cells with
// nothing ranked under them come last, at -infinity. Error(kInvalidArgument) where nothing is ranked, the
// views have nothing in common, or the mask is no rectangle.
void keep_list(const at::Tensor& logits, const View& view, const EncoderGrid& encoder, const KeepList& result,
               const RunContext& context);

}  // namespace ltrp
