#include <doctest/doctest.h>

#include <array>
#include <cmath>
#include <vector>

#include "kernels/difference.h"
#include "kernels/pixels.h"
#include "kernels/resample.h"
#include "test/core_support.h"
#include "test/delta_support.h"

namespace ltrp::test {
namespace {

// SSIM by its definition: every window position on its own, weights of the two-dimensional Gaussian; beyond
// the edges the images go on by reflection.
double naive_ssim(const at::Tensor& predicted, const at::Tensor& target) {
  const at::Tensor p = at::reflection_pad2d(predicted, {5, 5, 5, 5}),
                   t = at::reflection_pad2d(target, {5, 5, 5, 5});
  const int64_t height = p.size(1), width = p.size(2);
  const double range = std::max((p.max() - p.min()).item<double>(), (t.max() - t.min()).item<double>());
  const double c1 = std::pow(0.01 * range, 2), c2 = std::pow(0.03 * range, 2);
  at::Tensor weights = at::empty({11, 11}, at::kDouble);
  for (int64_t y = 0; y < 11; ++y) {
    for (int64_t x = 0; x < 11; ++x) {
      weights[y][x] = std::exp(-static_cast<double>((y - 5) * (y - 5) + (x - 5) * (x - 5)) / (2 * 1.5 * 1.5));
    }
  }
  weights = weights / weights.sum();
  double sum = 0;
  for (int64_t c = 0; c < 3; ++c) {
    for (int64_t y = 0; y + 11 <= height; ++y) {
      for (int64_t x = 0; x + 11 <= width; ++x) {
        const at::Tensor a = p[c].slice(0, y, y + 11).slice(1, x, x + 11),
                         b = t[c].slice(0, y, y + 11).slice(1, x, x + 11);
        const double ma = (weights * a).sum().item<double>(), mb = (weights * b).sum().item<double>();
        const double va = (weights * (a - ma).square()).sum().item<double>();
        const double vb = (weights * (b - mb).square()).sum().item<double>();
        const double cov = (weights * (a - ma) * (b - mb)).sum().item<double>();
        sum += (2 * ma * mb + c1) * (2 * cov + c2) / ((ma * ma + mb * mb + c1) * (va + vb + c2));
      }
    }
  }
  return sum / static_cast<double>(3 * (height - 10) * (width - 10));
}

// Of images [m, 3, H, W].
at::Tensor similarity_of_images(const at::Tensor& predicted, const at::Tensor& target, int64_t patch_size) {
  return structural_similarity(
      patchify_channels_last(target, patch_size), at::arange(target.size(0), at::kInt),
      {patchify_channels_last(predicted, patch_size).flatten(0, 1).contiguous()},
      /*difference=*/false, {target.size(2) / patch_size, target.size(3) / patch_size});
}

TEST_CASE("SSIM equals its definition window by window") {
  const at::Tensor p = random_tensor({2, 3, 13, 16}, 1), t = p + random_tensor({2, 3, 13, 16}, 2) * 0.3;
  const at::Tensor got = similarity_of_images(p, t, 1);
  for (int64_t i = 0; i < 2; ++i)
    CHECK(got[i].item<double>() == doctest::Approx(naive_ssim(p[i], t[i])).epsilon(1e-9));
  CHECK(similarity_of_images(p, p, 1).min().item<double>() == doctest::Approx(1));
}

TEST_CASE("SSIM in float32, at every level: what it lacks to one, of patches of any size") {
  at_every_level([] {
    // Heights and widths that are no multiples of what is taken at a time.
    for (const auto& [rows, columns, patch] :
         std::vector<std::array<int64_t, 3>>{{11, 11, 1}, {13, 16, 1}, {6, 8, 2}, {7, 5, 3}, {1, 2, 16}}) {
      for (const double change : {1.0, 1e-2, 1e-4}) {
        CAPTURE(rows);
        CAPTURE(patch);
        CAPTURE(change);
        const std::vector<int64_t> shape{3, 3, rows * patch, columns * patch};
        const at::Tensor anchors = random_tensor(shape, 1, at::kFloat) + 0.3,
                         apart = random_tensor(shape, 2, at::kFloat) * change;
        // Every variant is of another's anchor, and has a row ahead of its patches that nobody reads.
        const at::Tensor image = at::tensor({2, 0, 1}, at::kInt), targets = anchors.index_select(0, image);
        const at::Tensor patches = patchify_channels_last(apart, patch);
        const at::Tensor values =
            at::cat({at::full_like(patches.slice(1, 0, 1), 7), patches}, 1).flatten(0, 1).contiguous();
        const at::Tensor scale = random_tensor({values.size(0)}, 3, at::kFloat).abs() + 0.5;
        const auto check = [&](const ProductRows& changed, bool difference, const at::Tensor& images) {
          const at::Tensor got = structural_similarity(patchify_channels_last(anchors, patch), image, changed,
                                                       difference, {rows, columns});
          const at::Tensor want = similarity_of_images(images, targets.to(at::kDouble), patch);
          // float32 has 24 digits for the result, and its differences fewer.
          const double digits = difference ? 1e-5 : 1e-5 + 1e-6 / change;
          CHECK((got - want).abs().le((1 - want) * digits + 1e-7).all().item<bool>());
        };
        const auto image_of = [&](const at::Tensor& rows_of) {
          return unpatchify_channels_last(
              rows_of.to(at::kDouble).view({3, -1, patch * patch * 3}).slice(1, 1), rows, columns, patch);
        };
        check({values}, true, targets.to(at::kDouble) + image_of(values));
        const at::Tensor narrow = values.to(at::kBFloat16);
        check({narrow, scale}, true,
              targets.to(at::kDouble) + image_of(narrow.to(at::kDouble) * scale.unsqueeze(1)));
        check({patchify_channels_last(targets + apart, patch).flatten(0, 1).contiguous()}, false,
              (targets + apart).to(at::kDouble));
      }
    }
  });
}

TEST_CASE("PSNR of a known error") {
  // Range 3, whatever the values are; error 0.1 everywhere: 10 log10(9 / 0.01).
  CHECK(peak_signal_to_noise(at::full({1}, 0.01, at::kDouble)).item<double>() ==
        doctest::Approx(10 * std::log10(900.0)).epsilon(1e-9));
}

TEST_CASE("mean differences") {
  const at::Tensor a = random_tensor({2, 3, 5}, 1), b = random_tensor({2, 3, 5}, 2);
  double absolute = 0, squared = 0;
  for (int64_t t = 0; t < 3; ++t) {
    for (int64_t c = 0; c < 5; ++c) {
      const double d = (a[1][t][c] - b[1][t][c]).item<double>();
      absolute += std::abs(d) / 15;
      squared += d * d / 15;
    }
  }
  CHECK(mean_absolute_difference(a, b)[1].item<double>() == doctest::Approx(absolute));
  CHECK(mean_squared_difference(a, b)[1].item<double>() == doctest::Approx(squared));
}

TEST_CASE("the geometric mean of tokens' mean differences, by its definition; where nothing moves it is 0") {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const at::Tensor a = random_tensor({3, 5, 7}, 1, type), b = random_tensor({3, 5, 7}, 2, type);
    b[2].copy_(a[2]);
    b[1][3].copy_(a[1][3]);
    const at::Tensor found = geometric_mean_difference(a, b);
    CHECK((found.scalar_type() == type));
    const auto x = a.to(at::kDouble), y = b.to(at::kDouble);
    for (int64_t i = 0; i < 3; ++i) {
      double product = 1;
      for (int64_t token = 0; token < 5; ++token) {
        double sum = 0;
        for (int64_t k = 0; k < 7; ++k)
          sum += std::abs(x[i][token][k].item<double>() - y[i][token][k].item<double>());
        product *= sum / 7 + 1e-3;
      }
      CHECK(found[i].item<double>() == doctest::Approx(std::pow(product, 1.0 / 5) - 1e-3).epsilon(1e-5));
    }
    CHECK(found[2].item<double>() == 0);
  }
}

TEST_CASE("cropping at the original scale copies the box; a flip mirrors it") {
  const at::Tensor picture = at::randint(0, 256, {20, 30, 3}, at::kByte);
  at::Tensor out = at::empty({8, 12, 3}, at::kByte);
  crop_resize_bicubic(picture.const_data_ptr<uint8_t>(), 20, 30, {3, 5, 8, 12}, 8, 12, false,
                      out.mutable_data_ptr<uint8_t>());
  const at::Tensor box = picture.slice(0, 3, 11).slice(1, 5, 17);
  CHECK(at::equal(out, box));
  crop_resize_bicubic(picture.const_data_ptr<uint8_t>(), 20, 30, {3, 5, 8, 12}, 8, 12, true,
                      out.mutable_data_ptr<uint8_t>());
  CHECK(at::equal(out, box.flip({1})));
  CHECK_THROWS(crop_resize_bicubic(picture.const_data_ptr<uint8_t>(), 20, 30, {13, 5, 8, 12}, 8, 12, false,
                                   out.mutable_data_ptr<uint8_t>()));
}

TEST_CASE("bicubic reduction by an integer factor equals the antialiased filter in float64") {
  // One dimension at a time: the filter of half-width 2 * scale, a = -0.5, normalised; PIL's definition.
  const int64_t size = 24, scale = 3;
  // Far enough from 0 and 255 that nothing is cut off between the two dimensions, where PIL rounds to bytes.
  const at::Tensor picture = at::randint(48, 208, {size, size, 3}, at::kByte);
  at::Tensor out = at::empty({size / scale, size / scale, 3}, at::kByte);
  crop_resize_bicubic(picture.const_data_ptr<uint8_t>(), size, size, {0, 0, size, size}, size / scale,
                      size / scale, false, out.mutable_data_ptr<uint8_t>());
  const auto cubic = [](double x) {
    x = std::abs(x);
    constexpr double a = -0.5;
    if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
    if (x < 2) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
  };
  at::Tensor weights = at::zeros({size / scale, size}, at::kDouble);
  for (int64_t o = 0; o < size / scale; ++o) {
    const double centre = (static_cast<double>(o) + 0.5) * static_cast<double>(scale);
    for (int64_t i = 0; i < size; ++i)
      weights[o][i] = cubic((static_cast<double>(i) + 0.5 - centre) / static_cast<double>(scale));
  }
  weights = weights / weights.sum(1, true);
  const at::Tensor expected =
      at::matmul(weights, at::matmul(picture.permute({2, 0, 1}).to(at::kDouble), weights.t()))
          .permute({1, 2, 0})
          .clamp(0, 255);
  CHECK(largest_difference(out.to(at::kDouble), expected) <= 1.01);
}

}  // namespace
}  // namespace ltrp::test
