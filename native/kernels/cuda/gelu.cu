// The exact GELU, x Phi(x) with Phi(x) = (1 + erf(x / sqrt 2)) / 2, and its difference.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.cuh"

namespace ltrp::cuda {
namespace {

__device__ __forceinline__ float normal_distribution(float x) {
  return fmaf(0.5F, erff(x * 0.70710678118654752F), 0.5F);
}

// Phi(m + h) - Phi(m - h) for h <= 1/4: the Taylor series about the middle, whose even terms cancel,
//
//   2 h phi(m) (1 + h^2 He2(m) / 3! + h^4 He4(m) / 5! + h^6 He6(m) / 7!),
//
// with Hermite polynomials He2 = m^2 - 1 and so on. What is left out is below 1e-8 h. Beyond m^2 = 400 the
// density is zero in float32; the polynomials stay finite there.
__device__ __forceinline__ float small_step(float m, float h) {
  const float m2 = fminf(m * m, 400.0F), h2 = h * h;
  const float density = 0.39894228040143268F * expf(-0.5F * m2);
  const float he2 = m2 - 1.0F;
  const float he4 = fmaf(m2, m2 - 6.0F, 3.0F);
  const float he6 = fmaf(m2, fmaf(m2, m2 - 15.0F, 45.0F), -15.0F);
  float series = fmaf(h2, he6 * (1.0F / 5040.0F), he4 * (1.0F / 120.0F));
  series = fmaf(h2, series, he2 * (1.0F / 6.0F));
  series = fmaf(h2, series, 1.0F);
  return 2.0F * h * (density * series);
}

// gelu(u + du) - gelu(u) = du Phi(u + du) + u (Phi(u + du) - Phi(u)): zero at du = 0, and right to a few
// units in the last place of du and not only of u where du is small.
__device__ __forceinline__ float gelu_step(float u, float du) {
  const float after = u + du, phi = normal_distribution(after);
  const float step =
      fabsf(du) <= 0.5F ? small_step(fmaf(0.5F, du, u), 0.5F * du) : phi - normal_distribution(u);
  return fmaf(du, phi, u * step);
}

// gelu(u + du) - gelu(u), rounded. Differences of a GELU taken in float32 would err by the last digit of u;
// most du are far smaller than u. The anchor's gelu(u) is not read: it would not help, and is 4 bytes.
//
// Memory per value: du (2 bytes in bfloat16) and the result (1 to 4), and the anchor's u (4, from the
// second-level cache where an image's variants run together); one error function, one exponential and some
// 30 operations, about as many as memory leaves time for.
//
// Launch: as the layer norms', four rows of up to 1024 values in a block, one of up to 8192. One kept row:
// at most 128 registers.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kBlock, Shape::kBlocksAtOnce)
    gelu_difference_kernel(args::GeluDifference a, int64_t rows) {
  constexpr int kPiece = Shape::kPiece;
  const int64_t r = Shape::row();
  if (r >= rows) return;
  const int width = static_cast<int>(a.width);
  const float* anchor = a.u + locate(a.set, a.rows, r).anchor * width;
  with_row(a.du, r, width, [&](const auto& product) {
    round_row<Shape>(a.out, r, width, [&](int, int column) {
      Values<kPiece> x = product.template piece<kPiece>(column);
      const Values<kPiece> u = load_values<kPiece>(anchor + column);
      for_values<kPiece>([&](int i) { x.x[i] = gelu_step(u.x[i], x.x[i]); });
      return x;
    });
  });
}

// gelu(u + bias), rounded.
//
// Memory per value: 2 bytes of u in bfloat16, 1 to 4 written; one error function. Launch as above.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kBlock, Shape::kBlocksAtOnce)
    gelu_rows_kernel(args::GeluRows a, int64_t rows) {
  constexpr int kPiece = Shape::kPiece;
  const int64_t r = Shape::row();
  if (r >= rows) return;
  const int width = static_cast<int>(a.width);
  with_row(a.u, r, width, [&](const auto& product) {
    round_row<Shape>(a.out, r, width, [&](int, int column) {
      Values<kPiece> x = product.template piece<kPiece>(column);
      const Values<kPiece> bias = load_values<kPiece>(a.bias + column);
      for_values<kPiece>([&](int i) {
        const float u = x.x[i] + bias.x[i];
        x.x[i] = u * normal_distribution(u);
      });
      return x;
    });
  });
}

}  // namespace

void launch_gelu_difference(const args::GeluDifference& a, int64_t rows, Stream stream) {
  require_served(a.out);
  const bool pieces = in_pieces(a.width, {a.du.values, a.du.column_scale, a.u, a.out.values});
  with_shape(a.width, pieces, [&](auto shape) {
    using Shape = decltype(shape);
    launch_rows<Shape>(gelu_difference_kernel<Shape>, a, rows, stream);
  });
}

void launch_gelu_rows(const args::GeluRows& a, int64_t rows, Stream stream) {
  require_served(a.out);
  const bool pieces = in_pieces(a.width, {a.u.values, a.u.column_scale, a.bias, a.out.values});
  with_shape(a.width, pieces, [&](auto shape) {
    using Shape = decltype(shape);
    launch_rows<Shape>(gelu_rows_kernel<Shape>, a, rows, stream);
  });
}

}  // namespace ltrp::cuda
