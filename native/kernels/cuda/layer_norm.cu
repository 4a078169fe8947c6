// The layer norms: of a forward pass, of one with a product added first, and the delta form's difference.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.cuh"

namespace ltrp::cuda {
namespace {

// d[id] += update, then LN(s + d) - LN(s), rounded, or its squared norm.
//
// With y = (s - mean(s)) / sigma and sigma^2 = variance(s) + eps of the anchor, and d' = d - mean(d):
//
//   sigma'^2 - sigma^2  = 2 sigma mean(y d') + mean(d'^2)                     =: change
//   LN(s + d) - LN(s)   = weight * (y (ratio - 1) + d' ratio / sigma),        ratio = sigma / sigma'
//   ratio - 1           = -(change / sigma'^2) / (1 + ratio)
//
// so that nothing large is ever subtracted from anything large: a difference of 1e-6 comes out with as many
// digits as one of 1 (docs/engine.md).
//
// Memory per value: d is read and written (8 bytes), the anchor's y is read (4, from the second-level cache
// where an image's variants run together), the update is read (2 in bfloat16) and the result written (1 to
// 4): some 16 bytes, against about 20 floating-point operations; a GPU of 20 operations per byte waits for
// memory. d and y stay in registers over the three passes (add and mean; centred sums; result).
//
// Launch: one warp for each row of up to 1024 values, four rows in a block of 128 threads; one block of 128
// or 256 threads for each row of up to 8192; beyond that, or at odd widths and addresses, rows are read once
// per pass. At most 128 registers, no shared memory but the partial sums of rows that several warps share.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kBlock, Shape::kBlocksAtOnce)
    layer_norm_difference_kernel(args::LayerNormDifference a, int64_t rows) {
  constexpr int kPiece = Shape::kPiece;
  using Piece = Values<kPiece>;
  const int64_t r = Shape::row();
  if (r >= rows) return;
  const int width = static_cast<int>(a.width);
  const float per_width = 1.0F / static_cast<float>(width);
  const RowPlace place = locate(a.set, a.rows, r);
  float* d = a.d + place.id * width;
  const float* normed = a.normed + place.anchor * width;

  Kept<Shape> kept_d, kept_y;
  float sum = 0;
  const auto add_up = [&](int j, const Piece& x) {
    kept_d.keep(j, x);
    for_values<kPiece>([&](int i) { sum += x.x[i]; });
  };
  if (a.update.values != nullptr) {
    with_row(a.update, r, width, [&](const auto& update) {
      Shape::for_pieces(width, [&](int j, int column) {
        Piece x = load_values<kPiece>(d + column);
        const Piece more = update.template piece<kPiece>(column);
        for_values<kPiece>([&](int i) { x.x[i] += more.x[i]; });
        store_values(d + column, x);
        add_up(j, x);
      });
    });
  } else {
    Shape::for_pieces(width, [&](int j, int column) { add_up(j, load_values<kPiece>(d + column)); });
  }
  const float mean = over_row<Shape>(sum, Sum()) * per_width;

  const auto d_again = [&](int j, int column) {
    return kept_d.get(j, [&] { return load_values<kPiece>(d + column); });
  };
  float sums[3] = {0, 0, 0};  // of d - mean, its square, its product with y
  Shape::for_pieces(width, [&](int j, int column) {
    const Piece y = load_values<kPiece>(normed + column), x = d_again(j, column);
    kept_y.keep(j, y);
    for_values<kPiece>([&](int i) {
      const float apart = x.x[i] - mean;
      sums[0] += apart;
      sums[1] = fmaf(apart, apart, sums[1]);
      sums[2] = fmaf(apart, y.x[i], sums[2]);
    });
  });
  over_row<Shape>(sums, Sum());

  const float rest = sums[0] * per_width;  // what the mean lacks, after its rounding
  const float sigma = a.deviation[place.anchor];
  const float change =
      2.0F * sigma * (sums[2] * per_width) + fmaxf(fmaf(sums[1], per_width, -rest * rest), 0.0F);
  // Rounding must not make a variance that all but vanishes negative.
  const float after = fmaxf(sigma * sigma + change, sigma * sigma * 1e-6F);
  const float ratio = sigma / sqrtf(after);
  const float of_y = -(change / after) / (1.0F + ratio);
  const float of_d = ratio / sigma;
  const auto value = [&](int j, int column) {
    const Piece y = kept_y.get(j, [&] { return load_values<kPiece>(normed + column); });
    const Piece x = d_again(j, column), weight = load_values<kPiece>(a.weight + column);
    Piece result;
    for_values<kPiece>(
        [&](int i) { result.x[i] = weight.x[i] * fmaf(y.x[i], of_y, (x.x[i] - mean - rest) * of_d); });
    return result;
  };
  if (a.squares == nullptr) return round_row<Shape>(a.out, r, width, value);
  float square = 0;
  Shape::for_pieces(width, [&](int j, int column) {
    const Piece x = value(j, column);
    for_values<kPiece>([&](int i) { square = fmaf(x.x[i], x.x[i], square); });
  });
  square = over_row<Shape>(square, Sum());
  if (Shape::thread() == 0) a.squares[r] = square;
}

// A row's mean, in two parts (what float32 makes of it, and what that lacks), and sqrt(variance + eps).
struct Moments {
  float mean;
  float rest;
  float deviation;
  __device__ __forceinline__ float centred(float x) const { return x - mean - rest; }
};

// `sum` is this thread's part of the sum of the row; again(j, column) yields its pieces.
//
// The variance is summed from centred values. Their own mean is not quite zero: the first mean was rounded,
// which counts where it is many deviations from zero. It is taken out as well.
template <typename Shape, typename Again>
__device__ __forceinline__ Moments moments_of(float sum, int width, float eps, Again again) {
  const float per_width = 1.0F / static_cast<float>(width);
  const float mean = over_row<Shape>(sum, Sum()) * per_width;
  float sums[2] = {0, 0};  // of x - mean and its square
  Shape::for_pieces(width, [&](int j, int column) {
    const Values<Shape::kPiece> x = again(j, column);
    for_values<Shape::kPiece>([&](int i) {
      const float apart = x.x[i] - mean;
      sums[0] += apart;
      sums[1] = fmaf(apart, apart, sums[1]);
    });
  });
  over_row<Shape>(sums, Sum());
  const float rest = sums[0] * per_width;
  const float variance = fmaxf(fmaf(sums[1], per_width, -rest * rest), 0.0F);
  return {mean, rest, sqrtf(variance + eps)};
}

// (x - mean) / sqrt(variance + eps) * weight + bias, and what the delta form needs of the anchor: the same
// before weight and bias, and the deviation. Three passes over the row's registers.
//
// Memory per value: 4 bytes read, 4 or 8 written; about 8 operations. Launch as above; registers for one
// kept row.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kBlock, Shape::kBlocksAtOnce)
    layer_norm_rows_kernel(args::LayerNormRows a, int64_t rows) {
  constexpr int kPiece = Shape::kPiece;
  using Piece = Values<kPiece>;
  const int64_t r = Shape::row();
  if (r >= rows) return;
  const int width = static_cast<int>(a.width);
  const int64_t first = r * width;

  Kept<Shape> kept;
  float sum = 0;
  Shape::for_pieces(width, [&](int j, int column) {
    const Piece x = load_values<kPiece>(a.x + first + column);
    kept.keep(j, x);
    for_values<kPiece>([&](int i) { sum += x.x[i]; });
  });
  const auto again = [&](int j, int column) {
    return kept.get(j, [&] { return load_values<kPiece>(a.x + first + column); });
  };
  const Moments moments = moments_of<Shape>(sum, width, static_cast<float>(a.eps), again);
  const float inverse = 1.0F / moments.deviation;
  Shape::for_pieces(width, [&](int j, int column) {
    Piece x = again(j, column);
    for_values<kPiece>([&](int i) { x.x[i] = moments.centred(x.x[i]) * inverse; });
    if (a.normed != nullptr) store_values(a.normed + first + column, x);
    const Piece weight = load_values<kPiece>(a.weight + column), bias = load_values<kPiece>(a.bias + column);
    for_values<kPiece>([&](int i) { x.x[i] = fmaf(x.x[i], weight.x[i], bias.x[i]); });
    store_values(a.out + first + column, x);
  });
  if (a.deviation != nullptr && Shape::thread() == 0) a.deviation[r] = moments.deviation;
}

// x[r] += update[r] + update_bias where there is an update, then LN(x) as above, rounded.
//
// Memory per value: 8 bytes of x, 2 of a bfloat16 update, 1 to 4 written; about 12 operations. Launch as
// above.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kBlock, Shape::kBlocksAtOnce)
    add_layer_norm_kernel(args::AddLayerNorm a, int64_t rows) {
  constexpr int kPiece = Shape::kPiece;
  using Piece = Values<kPiece>;
  const int64_t r = Shape::row();
  if (r >= rows) return;
  const int width = static_cast<int>(a.width);
  float* row = a.x + r * width;

  Kept<Shape> kept;
  float sum = 0;
  const auto add_up = [&](int j, const Piece& x) {
    kept.keep(j, x);
    for_values<kPiece>([&](int i) { sum += x.x[i]; });
  };
  if (a.update.values != nullptr) {
    with_row(a.update, r, width, [&](const auto& update) {
      Shape::for_pieces(width, [&](int j, int column) {
        Piece x = load_values<kPiece>(row + column);
        const Piece more = update.template piece<kPiece>(column),
                    bias = load_values<kPiece>(a.update_bias + column);
        for_values<kPiece>([&](int i) { x.x[i] += more.x[i] + bias.x[i]; });
        store_values(row + column, x);
        add_up(j, x);
      });
    });
  } else {
    Shape::for_pieces(width, [&](int j, int column) { add_up(j, load_values<kPiece>(row + column)); });
  }
  const auto again = [&](int j, int column) {
    return kept.get(j, [&] { return load_values<kPiece>(row + column); });
  };
  const Moments moments = moments_of<Shape>(sum, width, static_cast<float>(a.eps), again);
  const float inverse = 1.0F / moments.deviation;
  round_row<Shape>(a.out, r, width, [&](int j, int column) {
    Piece x = again(j, column);
    const Piece weight = load_values<kPiece>(a.weight + column), bias = load_values<kPiece>(a.bias + column);
    for_values<kPiece>(
        [&](int i) { x.x[i] = fmaf(moments.centred(x.x[i]) * inverse, weight.x[i], bias.x[i]); });
    return x;
  });
}

}  // namespace

void launch_layer_norm_difference(const args::LayerNormDifference& a, int64_t rows, Stream stream) {
  if (a.squares == nullptr) require_served(a.out);
  const bool pieces =
      in_pieces(a.width, {a.d, a.update.values, a.update.column_scale, a.normed, a.weight, a.out.values});
  with_shape(a.width, pieces, [&](auto shape) {
    using Shape = decltype(shape);
    launch_rows<Shape>(layer_norm_difference_kernel<Shape>, a, rows, stream);
  });
}

void launch_layer_norm_rows(const args::LayerNormRows& a, int64_t rows, Stream stream) {
  const bool pieces = in_pieces(a.width, {a.x, a.weight, a.bias, a.out, a.normed});
  with_shape(a.width, pieces, [&](auto shape) {
    using Shape = decltype(shape);
    launch_rows<Shape>(layer_norm_rows_kernel<Shape>, a, rows, stream);
  });
}

void launch_add_layer_norm(const args::AddLayerNorm& a, int64_t rows, Stream stream) {
  require_served(a.out);
  const bool pieces = in_pieces(
      a.width, {a.x, a.update.values, a.update.column_scale, a.update_bias, a.weight, a.bias, a.out.values});
  with_shape(a.width, pieces, [&](auto shape) {
    using Shape = decltype(shape);
    launch_rows<Shape>(add_layer_norm_kernel<Shape>, a, rows, stream);
  });
}

}  // namespace ltrp::cuda
