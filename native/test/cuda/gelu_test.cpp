// The CUDA GELUs, executed in the emulation, against plain float64.
#include "kernels/forward.h"
#include "test/cuda/kernel_support.h"

namespace ltrp::test {
namespace {

// Rows of a set whose anchor has u, changed by the product `du` of the range's rows.
Rows difference(const VariantSet& set, const RowRange& range, const at::Tensor& u, const ProductOf& du,
                Encoding encoding) {
  args::GeluDifference a;
  a.set = argument_of(set);
  a.width = u.size(1);
  a.rows = argument_of(range);
  a.du = du.argument();
  a.u = floats_of(u);
  const at::Tensor gelu_u = at::gelu(u);
  a.gelu_u = floats_of(gelu_u);
  Rows rows(range.size(), a.width, encoding);
  a.out = rows.out();
  cuda::launch_gelu_difference(a, range.size(), nullptr);
  return rows;
}

VariantSet one_variant(int64_t tokens) {
  VariantSet set;
  set.variants = 1;
  set.tokens = tokens;
  set.image = at::zeros({1}, at::kInt);
  return set;
}

// gelu(u + du) - gelu(u) in float64 without cancellation: du Phi(u + du) + u (Phi(u + du) - Phi(u)), whose
// last factor is a Taylor series where du is small.
at::Tensor exact_difference(const at::Tensor& u, const at::Tensor& du) {
  const auto phi = [](const at::Tensor& x) { return at::erfc(x * -std::sqrt(0.5)) * 0.5; };
  const auto density = [](const at::Tensor& x) {
    return (x * x * -0.5).exp() / std::sqrt(2 * std::acos(-1.0));
  };
  const at::Tensor m = u + du / 2, h = du / 2;
  const at::Tensor series = 2 * h * density(m) * (1 + h * h * (m * m - 1) / 6);
  const at::Tensor step = at::where(du.abs() < 1e-3, series.nan_to_num(0), phi(u + du) - phi(u));
  return du * phi(u + du) + u * step;
}

TEST_CASE("CUDA gelu_difference is gelu(u + du) - gelu(u), in every encoding") {
  uint64_t seed = 70;
  for (const int64_t width : {1, 3, 33, 100, 768}) {
    for (const SetShape& shape : kSetShapes) {
      const VariantSet set = variant_set(shape.images, shape.variants, shape.tokens, shape.queries, ++seed);
      for (const double size : {1.0, 6.0, 1e4, 1e-20, 0.0}) {
        const at::Tensor u = normal({shape.images * shape.tokens, width}, seed + 1, size);
        for (const RowRange& range : ranges_of(set.rows(), seed)) {
          if (range.size() == 0) continue;
          const at::Tensor base =
              doubles(u).index_select(0, anchor_of_rows(set)).index_select(0, ids_of(range));
          const size_t kind = static_cast<size_t>(++seed) % 5;
          const Encoding encoding = all_encodings()[static_cast<size_t>(seed) / 5 % 5];
          const ProductOf du =
              product_of_kind(normal({range.size(), width}, seed + 2, range.begin == 0 ? 0.1 * size : 2.0),
                              all_products()[kind], seed);
          CAPTURE(width);
          CAPTURE(size);
          CAPTURE(kind);
          CAPTURE(static_cast<int>(encoding));
          const at::Tensor want = exact_difference(base, du.value());
          // du counts to a few units in its last place; where it is large, so does u.
          const at::Tensor large = du.value().abs().gt(0.499);
          const at::Tensor tolerance =
              8 * kUlp * du.value().abs() + at::where(large, 3 * kUlp * base.abs(), 0.0) + 1e-44;
          check_rounded(difference(set, range, u, du, encoding), want, tolerance);
        }
      }
    }
  }
}

TEST_CASE("CUDA gelu_difference: small du come out as exactly as large ones, and 0 as 0") {
  const at::Tensor u =
      at::cat({at::linspace(-8, 8, 3200, at::kFloat), at::tensor({0.0F, -0.0F, 1e-40F, 1e30F}),
               at::tensor({-1e30F, 30.0F, -30.0F, 1e10F})})
          .view({1, -1});
  const VariantSet set = one_variant(1);
  for (const double size : {0.5, 0.3, 0.1, 1e-2, 1e-4, 1e-7, 1e-12, 1e-25}) {
    for (const double sign : {1.0, -1.0}) {
      CAPTURE(size);
      const at::Tensor du = at::full_like(u, sign * size);
      const at::Tensor want = exact_difference(doubles(u), doubles(du));
      const Rows got = difference(set, {0, 1, {}}, u, {Encoding::kFloat32, du, {}, {}}, Encoding::kFloat32);
      CHECK((got.value() - want).abs().max().item<double>() <= 8 * kUlp * size);
    }
  }
  for (const Encoding encoding : all_encodings()) {
    const ProductOf none{Encoding::kFloat32, at::zeros_like(u), {}, {}};
    CHECK(difference(set, {0, 1, {}}, u, none, encoding).value().eq(0).all().item<bool>());
  }
}

TEST_CASE("CUDA gelu_difference over the whole range of the error function") {
  // gelu(0 + x) - gelu(0) is gelu(x).
  const at::Tensor x = at::cat({at::linspace(-12, 12, 4801, at::kFloat),
                                at::tensor({-1e30F, -1e4F, 1e4F, 1e30F, -0.0F, 1e-45F})})
                           .view({1, -1});
  const Rows got = difference(one_variant(1), {0, 1, {}}, at::zeros_like(x), {Encoding::kFloat32, x, {}, {}},
                              Encoding::kFloat32);
  CHECK(
      (got.value() - at::gelu(doubles(x))).abs().le(4 * kUlp * doubles(x).abs() + 1e-44).all().item<bool>());
}

TEST_CASE("CUDA gelu_difference errs at most twice as much as LibTorch, and agrees with the CPU's") {
  const VariantSet set = one_variant(20);
  const at::Tensor u = normal({20, 300}, 90, 1.5), gelu_u = at::gelu(u);
  for (const double size : {1.0, 1e-2}) {
    const at::Tensor du = normal({20, 300}, 91, size);
    const at::Tensor exact = exact_difference(doubles(u), doubles(du)), plain = at::gelu(u + du) - gelu_u;
    for (const Encoding encoding : all_encodings()) {
      CAPTURE(size);
      CAPTURE(static_cast<int>(encoding));
      const Rows got = difference(set, {0, 20, {}}, u, {Encoding::kFloat32, du, {}, {}}, encoding);
      check_twice_libtorch(got.value(), rounded_by_libtorch(plain, encoding), exact);
      if (encoding == Encoding::kFloat16 || encoding == Encoding::kFloat8) continue;
      const Precision precision = encoding == Encoding::kFloat32    ? Precision::kFloat32
                                  : encoding == Encoding::kBfloat16 ? Precision::kBfloat16
                                                                    : Precision::kInt8;
      const at::Tensor twin = value_of(gelu_difference(set, {0, 20, {}}, {du, {}}, u, gelu_u, precision));
      // What the twin is right to: delta_kernels_test.cpp.
      const at::Tensor after = (doubles(u) + doubles(du)).abs();
      const at::Tensor allowed =
          2 * rounding_of(exact, encoding) + 1.5e-7 * after + 4 * kUlp * (after + doubles(u).abs()) + 1e-44;
      CHECK((got.value() - twin).abs().le(allowed).all().item<bool>());
    }
  }
}

TEST_CASE("CUDA gelu_rows is the exact GELU of a product with its bias, at every width") {
  uint64_t seed = 500;
  for (const int64_t width : row_widths()) {
    for (const double scale : {1.0, 30.0, 1e-3, 1e-20, 0.0}) {
      for (const ProductShape& kind : all_products()) {
        const Encoding encoding = all_encodings()[(static_cast<size_t>(seed) * 3) % 5];
        CAPTURE(width);
        CAPTURE(scale);
        CAPTURE(static_cast<int>(kind.encoding));
        CAPTURE(static_cast<int>(encoding));
        const ProductOf u = product_of_kind(normal({5, width}, 1, scale), kind, ++seed);
        const at::Tensor bias = normal({width}, 3, scale);
        const at::Tensor exact = at::gelu(u.value() + doubles(bias));
        args::GeluRows a;
        a.width = width;
        a.u = u.argument();
        a.bias = floats_of(bias);
        Rows got(5, width, encoding);
        a.out = got.out();
        cuda::launch_gelu_rows(a, 5, nullptr);
        check_rounded(got, exact, 4 * kUlp * (u.value().abs() + doubles(bias).abs()) + 1e-44);
        if (kind.encoding == Encoding::kFloat32 && !kind.scaled) {
          const at::Tensor twin = value_of(gelu_rows({u.values, {}}, bias, Precision::kFloat32));
          const at::Tensor allowed =
              2 * rounding_of(exact, encoding) + 4e-7 * (u.value().abs() + doubles(bias).abs());
          CHECK((got.value() - twin).abs().le(allowed).all().item<bool>());
          if (width >= 100 && scale > 1e-10) {
            check_twice_libtorch(got.value(), rounded_by_libtorch(at::gelu(u.values + bias), encoding),
                                 exact);
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace ltrp::test
