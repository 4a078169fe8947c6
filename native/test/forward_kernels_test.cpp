// The operators of kernels/forward.h against plain float64, at every instruction set.
#include "kernels/forward.h"

#include <cmath>

#include "kernels/pixels.h"
#include "test/delta_support.h"

namespace ltrp::test {
namespace {

const std::vector<int64_t> kWidths{1, 3, 15, 16, 17, 33, 100};

// Units in the last place that a row's sums may lose: they are added up in a few dozen lanes.
constexpr double kSteps = 16;

const std::vector<ProductKind>& all_kinds() {
  static const std::vector<ProductKind> kinds{ProductKind::kFloat32, ProductKind::kBfloat16,
                                              ProductKind::kScaledBfloat16};
  return kinds;
}

// Rows against `exact` [R, W]: `tolerance` is what float32 arithmetic may do, and the rounding comes on top.
// A byte stands for a step; the bytes below and above zero reach as far as the row does.
void check_against(const RoundedRows& got, const at::Tensor& exact, const at::Tensor& tolerance,
                   Precision precision) {
  REQUIRE(got.values.sizes() == exact.sizes());
  at::Tensor value = doubles(got.values), rounding;
  if (precision == Precision::kInt8) {
    value = (value - static_cast<double>(got.zero_point)) * doubles(got.scale).unsqueeze(1);
    const double below = got.zero_point == 128 ? 127.0 : static_cast<double>(got.zero_point);
    const double above = got.zero_point == 128 ? 127.0 : 255.0 - static_cast<double>(got.zero_point);
    const at::Tensor high = exact.amax(1, true).clamp_min(0) / above,
                     low = (-exact.amin(1, true)).clamp_min(0) / below;
    const at::Tensor step = at::maximum(high, low);
    rounding = at::where(exact.abs().amax(1, true) > 1e-36, step * 0.5005, exact.abs().amax(1, true) * 1.001)
                   .expand_as(exact);
  } else {
    rounding =
        precision == Precision::kBfloat16 ? (exact.abs() / 256).clamp_min(4.6e-41) : exact.abs() * kUlp;
  }
  const at::Tensor allowed = rounding + tolerance * 1.01;
  const double excess =
      ((value - exact).abs() / allowed.clamp_min(1e-300)).nan_to_num(1e300, 1e300).max().item<double>();
  CHECK(excess <= 1);
}

TEST_CASE("add_layer_norm adds a product with its bias and normalises") {
  at_every_level([] {
    for (const Precision precision : all_precisions()) {
      for (const int64_t width : kWidths) {
        for (const double scale : {1.0, 1e4, 1e-3, 0.0}) {
          for (const bool with_update : {false, true}) {
            CAPTURE(width);
            CAPTURE(scale);
            const auto kind = all_kinds()[static_cast<size_t>(width) % 3];
            const at::Tensor x = normal({5, width}, 1, scale, 3 * scale), before = doubles(x);
            const at::Tensor weight = normal({width}, 2), bias = normal({width}, 3),
                             update_bias = normal({width}, 4, scale);
            const ProductRows update =
                with_update ? product_rows(normal({5, width}, 5, scale), kind, 6) : ProductRows();
            const RoundedRows got = add_layer_norm(x, update, with_update ? update_bias : at::Tensor(),
                                                   weight, bias, 1e-6, precision);
            const at::Tensor added =
                with_update ? value_of(update) + doubles(update_bias) : at::zeros_like(before);
            const at::Tensor sum = before + added;
            const at::Tensor largest = before.abs().amax(1, true) + added.abs().amax(1, true);
            CHECK(((doubles(x) - sum).abs() <= 3 * kUlp * largest).all().item<bool>());
            const at::Tensor mean = sum.mean(1, true);
            const at::Tensor deviation = ((sum - mean).square().mean(1, true) + 1e-6).sqrt();
            const at::Tensor normed = (sum - mean) / deviation;
            const at::Tensor tolerance =
                kSteps * kUlp * (normed.abs() + largest / deviation) * doubles(weight).abs() +
                4 * kUlp * (doubles(bias).abs() + (normed * doubles(weight)).abs());
            check_against(got, normed * doubles(weight) + doubles(bias), tolerance, precision);
          }
        }
      }
    }
  });
}

TEST_CASE("gelu_rows is the exact GELU of a product with its bias") {
  at_every_level([] {
    for (const Precision precision : all_precisions()) {
      for (const ProductKind kind : all_kinds()) {
        for (const int64_t width : kWidths) {
          for (const double scale : {1.0, 30.0, 1e-3, 1e-20, 0.0}) {
            CAPTURE(width);
            CAPTURE(scale);
            const ProductRows u = product_rows(normal({4, width}, 1, scale), kind, 2);
            const at::Tensor bias = normal({width}, 3, scale);
            const at::Tensor exact = at::gelu(value_of(u) + doubles(bias));
            // The error function is good to 3e-7, and so is half the product with it.
            const at::Tensor tolerance = (value_of(u).abs() + doubles(bias).abs()) * 4e-7;
            check_against(gelu_rows(u, bias, precision), exact, tolerance, precision);
          }
        }
      }
    }
  });
}

TEST_CASE("bytes of GELU rows: the ends of the range are reached and not passed") {
  at_every_level([] {
    // A row whose positive side decides, one whose negative side does, one of zeros.
    at::Tensor u = at::zeros({3, 40}, at::kFloat);
    u[0].copy_(at::linspace(-6, 40, 40, at::kFloat));
    u[1].fill_(-0.75F);
    const RoundedRows got = gelu_rows({u, {}}, at::zeros({40}), Precision::kInt8);
    CHECK(got.values[0].max().item<int>() == 255);
    CHECK(got.values[0].min().item<int>() <= got.zero_point);
    CHECK(got.values[1].max().item<int>() == 0);
    CHECK((got.values[2] == got.zero_point).all().item<bool>());
  });
}

TEST_CASE("patch_rows are the patches that a projection reads") {
  at_every_level([] {
    for (const int64_t p : {1, 3, 8, 16}) {
      CAPTURE(p);
      const at::Tensor images = normal({2, 3, 3 * p, 5 * p}, 1, 2);
      const at::Tensor all = patchify_channels_first(images, p);
      const at::Tensor ids = at::tensor({0, 7, 14, 2, 3, 9}, at::kLong).view({2, 3});
      const at::Tensor chosen = all.gather(1, ids.unsqueeze(-1).expand({2, 3, 3 * p * p}));
      for (const Precision precision : all_precisions()) {
        for (const bool whole : {true, false}) {
          const at::Tensor exact = doubles(whole ? all : chosen).reshape({-1, 3 * p * p});
          check_against(patch_rows(images, p, whole ? at::Tensor() : ids, precision), exact,
                        exact.abs() * kUlp, precision);
        }
      }
    }
  });
}

TEST_CASE("product_attention is attention of a product with its bias") {
  at_every_level([] {
    for (const int64_t tokens : {1, 2, 7, 16, 17, 50}) {
      for (const int64_t head_dim : {1, 5, 16, 24, 64}) {
        for (const ProductKind kind : all_kinds()) {
          for (const bool chosen : {false, true}) {
            CAPTURE(tokens);
            CAPTURE(head_dim);
            const int64_t n = 2, heads = 3, width = heads * head_dim;
            const ProductRows qkv = product_rows(normal({n * tokens, 3 * width}, 1), kind, 2);
            const at::Tensor bias = normal({3 * width}, 3);
            at::Tensor queries;
            if (chosen) queries = at::tensor({0, static_cast<int>(tokens) - 1}, at::kInt).view({n, 1});
            // [3, n, heads, tokens, head_dim]
            const at::Tensor parts = (value_of(qkv) + doubles(bias))
                                         .view({n, tokens, 3, heads, head_dim})
                                         .permute({2, 0, 3, 1, 4});
            const at::Tensor weights =
                (parts[0].matmul(parts[1].transpose(-1, -2)) / std::sqrt(static_cast<double>(head_dim)))
                    .softmax(-1);
            at::Tensor exact = weights.matmul(parts[2]).transpose(1, 2).reshape({n, tokens, width});
            if (chosen) {
              exact = exact.gather(1, queries.to(at::kLong).unsqueeze(-1).expand({n, 1, width}));
            }
            const at::Tensor got = product_attention(qkv, bias, tokens, heads, queries);
            REQUIRE(got.sizes() == at::IntArrayRef({n * exact.size(1), width}));
            CHECK((doubles(got) - exact.reshape({-1, width})).abs().max().item<double>() <
                  4e-6 * (1 + exact.abs().max().item<double>()));
          }
        }
      }
    }
  });
}

}  // namespace
}  // namespace ltrp::test
