// Row kernels: LayerNorm and GELU differences, rounding, sums.
#include <ATen/ATen.h>

#include "kernel_cases.h"
#include "kernel_operands.h"

namespace ltrp::bench {

namespace {

using shape::kRows;
using shape::kTokens;
constexpr double kEps = 1e-6;

KernelCase named(const char* name, Precision precision, int64_t width) {
  KernelCase result;
  result.name = name;
  result.precision = precision_name(precision);
  result.shape = {kRows, width};
  result.tolerance = traffic(precision).tolerance;
  return result;
}

KernelCase of_layer_norm_difference(Precision precision) {
  constexpr int64_t kWidth = shape::kWidth;
  const at::Tensor s = normal_values({kTokens, kWidth}, 10);
  const at::Tensor weight = 1 + 0.1 * normal_values({kWidth}, 11), bias = 0.1 * normal_values({kWidth}, 12);
  LayerNormAnchor anchor;
  const at::Tensor normed = layer_norm_rows(s, weight, bias, kEps, &anchor);
  const at::Tensor ours_d = 0.05 * normal_values({kRows, kWidth}, 13), plain_d = ours_d.clone();
  const ProductRows update = product_rows(kWidth, 0.01, precision, 14);
  const VariantSet set = one_image();

  KernelCase result = named("layer_norm_difference", precision, kWidth);
  result.ours = [=] {
    return tensors_of(layer_norm_difference(set, all_rows(), ours_d, update, anchor, weight, precision));
  };
  result.plain = [=] {
    plain_d.add_(plain_product(update));
    const at::Tensor moved = per_variant(s) + by_variant(plain_d);
    const at::Tensor change = at::layer_norm(moved, {kWidth}, weight, bias, kEps) - per_variant(normed);
    return tensors_of(plain_rounded(change.view({kRows, kWidth}), precision));
  };
  const double values = static_cast<double>(kRows * kWidth);
  result.ours_bytes = values * (4 + 4 + traffic(precision).product + traffic(precision).rounded);
  // The sum in place, the sum with the anchor, the norm, the difference.
  result.plain_bytes =
      values * (traffic(precision).plain_product + 12 + 8 + 8 + 8 + traffic(precision).plain_rounded);
  return result;
}

KernelCase of_gelu_difference(Precision precision) {
  constexpr int64_t kWidth = shape::kHidden;
  const at::Tensor u = normal_values({kTokens, kWidth}, 20), gelu_u = at::gelu(u);
  const ProductRows du = product_rows(kWidth, 0.05, precision, 21);
  const VariantSet set = one_image();

  KernelCase result = named("gelu_difference", precision, kWidth);
  result.ours = [=] { return tensors_of(gelu_difference(set, all_rows(), du, u, gelu_u, precision)); };
  result.plain = [=] {
    const at::Tensor change = at::gelu(per_variant(u) + by_variant(plain_product(du))) - per_variant(gelu_u);
    return tensors_of(plain_rounded(change.view({kRows, kWidth}), precision));
  };
  const double values = static_cast<double>(kRows * kWidth);
  result.ours_bytes = values * (traffic(precision).product + traffic(precision).rounded);
  result.plain_bytes =
      values * (traffic(precision).plain_product + 8 + 8 + 8 + traffic(precision).plain_rounded);
  return result;
}

KernelCase of_round_rows(Precision precision) {
  constexpr int64_t kWidth = shape::kWidth;
  const at::Tensor x = 0.05 * normal_values({kRows, kWidth}, 30);
  KernelCase result = named("round_rows", precision, kWidth);
  result.ours = [=] { return tensors_of(round_rows(all_rows(), x, precision)); };
  result.plain = [=] { return tensors_of(plain_rounded(x, precision)); };
  const double values = static_cast<double>(kRows * kWidth);
  result.ours_bytes = values * (4 + traffic(precision).rounded);
  result.plain_bytes = values * traffic(precision).plain_rounded;
  return result;
}

KernelCase of_add_rows(Precision precision) {
  constexpr int64_t kWidth = shape::kWidth;
  const at::Tensor ours_x = 0.05 * normal_values({kRows, kWidth}, 35), plain_x = ours_x.clone();
  const ProductRows update = product_rows(kWidth, 0.01, precision, 36);
  KernelCase result = named("add_rows", precision, kWidth);
  result.ours = [=] {
    add_rows(all_rows(), ours_x, update);
    return std::vector{ours_x};
  };
  result.plain = [=] {
    plain_x.add_(plain_product(update));
    return std::vector{plain_x};
  };
  const double values = static_cast<double>(kRows * kWidth);
  result.ours_bytes = values * (8 + traffic(precision).product);
  result.plain_bytes = values * (traffic(precision).plain_product + 12);
  result.tolerance = 1e-6;
  return result;
}

KernelCase of_row_sums(Precision precision) {
  constexpr int64_t kWidth = shape::kPixels;
  const ProductRows x = product_rows(kWidth, 0.05, precision, 40);
  KernelCase result = named("row_sums", precision, kWidth);
  result.ours = [=] { return std::vector{row_sums(x, false)}; };
  result.plain = [=] { return std::vector{plain_product(x).abs().sum(1)}; };
  const double values = static_cast<double>(kRows * kWidth);
  result.ours_bytes = values * traffic(precision).product;
  result.plain_bytes = values * (traffic(precision).plain_product + 8 + 4);
  result.tolerance = 1e-5;
  return result;
}

KernelCase of_layer_norm() {
  constexpr int64_t kWidth = shape::kWidth;
  const at::Tensor x = normal_values({kRows, kWidth}, 50);
  const at::Tensor weight = 1 + 0.1 * normal_values({kWidth}, 51), bias = 0.1 * normal_values({kWidth}, 52);
  KernelCase result = named("layer_norm_rows", Precision::kFloat32, kWidth);
  result.ours = [=] {
    LayerNormAnchor anchor;
    const at::Tensor y = layer_norm_rows(x, weight, bias, kEps, &anchor);
    return std::vector{y, anchor.normed, anchor.deviation};
  };
  result.plain = [=] {
    const auto [y, mean, inverse] = at::native_layer_norm(x, {kWidth}, weight, bias, kEps);
    return std::vector{y, (x - mean) * inverse, inverse.reciprocal().view({kRows})};
  };
  const double values = static_cast<double>(kRows * kWidth);
  result.ours_bytes = values * (4 + 4 + 4);
  result.plain_bytes = values * (8 + 8 + 8);
  result.tolerance = 1e-5;
  return result;
}

}  // namespace

std::vector<KernelCaseMaker> row_kernel_cases() {
  std::vector<KernelCaseMaker> all;
  for (const Precision precision : {Precision::kBfloat16, Precision::kInt8}) {
    for (const auto make :
         {of_layer_norm_difference, of_gelu_difference, of_round_rows, of_add_rows, of_row_sums}) {
      all.push_back([=] { return make(precision); });
    }
  }
  all.push_back(of_layer_norm);
  return all;
}

}  // namespace ltrp::bench
