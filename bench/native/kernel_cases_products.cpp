// Matrix products with packed weights beside at::linear: the decoder's MLP.
#include <ATen/ATen.h>

#include <cmath>

#include "kernel_cases.h"
#include "kernel_operands.h"

namespace ltrp::bench {

namespace {

using shape::kRows;

KernelCase described(const char* name, const char* precision, int64_t inputs, int64_t outputs) {
  KernelCase result;
  result.name = name;
  result.precision = precision;
  result.shape = {kRows, inputs, outputs};
  result.flops = 2.0 * static_cast<double>(kRows) * static_cast<double>(inputs * outputs);
  return result;
}

// Operand, result, weight: bytes of a value each.
double product_traffic(int64_t inputs, int64_t outputs, double operand, double result, double weight) {
  return static_cast<double>(kRows) *
             (static_cast<double>(inputs) * operand + static_cast<double>(outputs) * result) +
         static_cast<double>(inputs * outputs) * weight;
}

at::Tensor weight_of(int64_t inputs, int64_t outputs) {
  return normal_values({outputs, inputs}, 80) / std::sqrt(static_cast<double>(inputs));
}

KernelCase of_rounded_linear(Precision precision, int64_t inputs, int64_t outputs) {
  const at::Tensor weight = weight_of(inputs, outputs);
  const RoundedRows x = plain_rounded(normal_values({kRows, inputs}, 81), precision);
  const LowPrecisionLinear linear(weight, precision);
  KernelCase result = described("LowPrecisionLinear", precision_name(precision), inputs, outputs);
  result.ours = [=] { return std::vector{linear(x).values}; };
  // LibTorch has no plain product of bytes: it gets the same integers as bfloat16, which holds them exactly.
  const at::Tensor plain_x =
      precision == Precision::kInt8 ? (x.values.to(at::kFloat) - 128).to(at::kBFloat16) : x.values;
  at::Tensor plain_weight = weight;
  at::Tensor scale;
  if (precision == Precision::kInt8) {
    scale = weight.abs().amax(1) / 127;
    plain_weight = (weight / scale.unsqueeze(1)).round();
  }
  plain_weight = plain_weight.to(at::kBFloat16);
  result.plain = [=] {
    const at::Tensor y = at::linear(plain_x, plain_weight);
    return std::vector{scale.defined() ? (y * scale).to(at::kBFloat16) : y};
  };
  result.ours_bytes =
      product_traffic(inputs, outputs, traffic(precision).rounded, 2, traffic(precision).rounded);
  result.plain_bytes = product_traffic(inputs, outputs, 2, 2, 2);
  result.tolerance = 1.0 / 64;  // bfloat16 results, rounded once or twice
  return result;
}

enum class After { kNothing, kGelu, kResidual };

KernelCase of_packed_linear(After after, int64_t inputs, int64_t outputs) {
  const at::Tensor weight = weight_of(inputs, outputs), bias = 0.1 * normal_values({outputs}, 82);
  const at::Tensor x = normal_values({kRows, inputs}, 83), residual = normal_values({kRows, outputs}, 84);
  const at::Tensor packed = packed_weight(weight);
  const char* name = after == After::kGelu       ? "packed_linear + gelu"
                     : after == After::kResidual ? "packed_linear_add"
                                                 : "packed_linear";
  KernelCase result = described(name, "float32", inputs, outputs);
  result.ours = [=] {
    return std::vector{after == After::kResidual ? packed_linear_add(x, packed, bias, residual)
                                                 : packed_linear(x, packed, bias, after == After::kGelu)};
  };
  result.plain = [=] {
    const at::Tensor y = at::linear(x, weight, bias);
    return std::vector{after == After::kGelu ? at::gelu(y) : after == After::kResidual ? y + residual : y};
  };
  const double product = product_traffic(inputs, outputs, 4, 4, 4);
  const double values = static_cast<double>(kRows * outputs);
  result.ours_bytes = product + (after == After::kResidual ? 4 * values : 0);
  result.plain_bytes = product + (after == After::kGelu       ? 8 * values
                                  : after == After::kResidual ? 12 * values
                                                              : 0);
  result.tolerance = 1e-5;
  return result;
}

}  // namespace

std::vector<KernelCaseMaker> product_kernel_cases() {
  constexpr int64_t kWidth = shape::kWidth, kHidden = shape::kHidden;
  std::vector<KernelCaseMaker> all{[] { return of_packed_linear(After::kNothing, kWidth, 3 * kWidth); },
                                   [] { return of_packed_linear(After::kGelu, kWidth, kHidden); },
                                   [] { return of_packed_linear(After::kResidual, kHidden, kWidth); }};
  for (const Precision precision : {Precision::kBfloat16, Precision::kInt8}) {
    if (!has_fast_products(precision)) continue;
    all.push_back([=] { return of_rounded_linear(precision, kWidth, kHidden); });
    all.push_back([=] { return of_rounded_linear(precision, kHidden, kWidth); });
  }
  return all;
}

}  // namespace ltrp::bench
