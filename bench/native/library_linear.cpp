#include "library_linear.h"

#include <ATen/ATen.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <optional>

#include "core/error.h"
#include "kernels/linear.h"
#include "machine.h"

namespace ltrp::bench {

namespace {

// These operators are registered by name only; they have no C++ header. Nothing when LibTorch lacks one.
std::optional<c10::OperatorHandle> find_operator(const char* name, const char* overload = "") {
  return c10::Dispatcher::singleton().findSchema({name, overload});
}

at::Tensor call(const c10::OperatorHandle& function, torch::jit::Stack stack) {
  function.callBoxed(stack);
  return stack.at(0).toTensor();
}

// The rows whose exact result is computed; all of them would cost more than the measurement.
constexpr int64_t kCheckedRows = 8;

at::Tensor exact(const at::Tensor& x, const at::Tensor& weight) {
  return at::mm(x.slice(0, 0, kCheckedRows).to(at::kDouble), weight.to(at::kDouble).t());
}

c10::List<std::optional<at::Scalar>> no_scalars() { return c10::List<std::optional<at::Scalar>>(); }

void add_onednn(std::vector<LibraryLinear>& found, const at::Tensor& x, const at::Tensor& weight,
                const at::Tensor& expected, double tolerance) {
  const auto pack = find_operator("mkldnn::_reorder_linear_weight");
  const auto linear = find_operator("mkldnn::_linear_pointwise");
  if (!pack || !linear) return;
  at::Tensor packed;
  try {
    packed = call(*pack, {weight, x.size(0)});
  } catch (const c10::Error&) {
    return;  // the processor lacks the instructions for this type
  }
  found.push_back({"onednn-packed",
                   [linear = *linear, x, packed] {
                     return call(linear, {x, packed, c10::IValue(), "none", no_scalars(), ""});
                   },
                   expected, tolerance});
}

std::vector<LibraryLinear> float64_linears(const at::Tensor& x, const at::Tensor& weight) {
  return {{"mkl", [x, weight] { return at::linear(x, weight); }, exact(x, weight), 1e-12}};
}

std::vector<LibraryLinear> float32_linears(const at::Tensor& x, const at::Tensor& weight) {
  const at::Tensor expected = exact(x, weight);
  constexpr double kTolerance = 1e-5;
  std::vector<LibraryLinear> found;
  found.push_back({"mkl", [x, weight] { return at::linear(x, weight); }, expected, kTolerance});
  const auto pack = find_operator("mkl::_mkl_reorder_linear_weight");
  const auto linear = find_operator("mkl::_mkl_linear");
  if (pack && linear) {
    const at::Tensor packed = call(*pack, {weight, x.size(0)});
    found.push_back({"mkl-packed",
                     [linear = *linear, x, weight, packed] {
                       return call(linear, {x, packed, weight, c10::IValue(), x.size(0)});
                     },
                     expected, kTolerance});
  }
  add_onednn(found, x, weight, expected, kTolerance);
  if (const at::Tensor packed = packed_weight(weight); packed.defined()) {
    const at::Tensor bias = at::zeros({weight.size(0)});
    found.push_back(
        {kOurs, [x, packed, bias] { return packed_linear(x, packed, bias); }, expected, kTolerance});
  }
  return found;
}

// `type` bfloat16 or float16; the tolerance is half a unit in the last place.
std::vector<LibraryLinear> half_linears(const at::Tensor& x, const at::Tensor& weight, at::ScalarType type,
                                        double tolerance) {
  const at::Tensor half_x = x.to(type), half_weight = weight.to(type);
  std::vector<LibraryLinear> found;
  add_onednn(found, half_x, half_weight, exact(half_x, half_weight), tolerance);
  if (type == at::kBFloat16 && has_fast_products(Precision::kBfloat16)) {
    const LowPrecisionLinear linear(half_weight.to(at::kFloat), Precision::kBfloat16);
    found.push_back({kOurs,
                     [linear, half_x] {
                       return linear({half_x, {}}).values;
                     },
                     exact(half_x, half_weight), tolerance});
  }
  return found;
}

std::vector<LibraryLinear> int8_linears(const at::Tensor& x, const at::Tensor& weight) {
  const auto pack = find_operator("onednn::qlinear_prepack");
  const auto linear = find_operator("onednn::qlinear_pointwise");
  if (!pack || !linear) return {};
  // Activations shifted by 128: the product of unsigned by signed bytes is the one that CPUs have.
  constexpr int64_t kZeroPoint = 128;
  const double scale = x.abs().max().item<double>() / 127;
  const at::Tensor shifted = ((x / scale).round() + kZeroPoint).clamp(0, 255).to(at::kByte);
  const at::Tensor weight_scale = weight.abs().amax(1) / 127;
  const at::Tensor weight8 = (weight / weight_scale.unsqueeze(1)).round().to(at::kChar);
  const at::Tensor weight_zero = at::zeros({weight.size(0)}, at::kInt);
  const at::Tensor packed = call(*pack, {weight8, std::vector<int64_t>{x.size(0), x.size(1)}});
  const at::Tensor expected = exact((shifted.to(at::kDouble) - kZeroPoint) * scale,
                                    weight8.to(at::kDouble) * weight_scale.to(at::kDouble).unsqueeze(1));
  std::vector<LibraryLinear> found{{"onednn-packed",
                                    [=, linear = *linear] {
                                      return call(linear, {shifted, scale, kZeroPoint, packed, weight_scale,
                                                           weight_zero, c10::IValue(), 1.0, int64_t{0},
                                                           at::kFloat, "none", no_scalars(), ""});
                                    },
                                    expected, 1e-5}};
  if (has_fast_products(Precision::kInt8)) {
    // Rounded to bfloat16, the rows' scale still to come.
    const LowPrecisionLinear ours(weight, Precision::kInt8);
    const RoundedRows rows{shifted, at::ones({x.size(0)}), kZeroPoint};
    found.push_back({kOurs, [ours, rows] { return ours(rows).values; }, expected / scale, 1.0 / 256});
  }
  return found;
}

}  // namespace

std::vector<LibraryLinear> library_linears(const std::string& precision, int64_t rows, int64_t inputs,
                                           int64_t outputs) {
  const at::Tensor x = at::randn({rows, inputs}), weight = at::randn({outputs, inputs});
  if (precision == "float64") return float64_linears(x.to(at::kDouble), weight.to(at::kDouble));
  if (precision == "float32") return float32_linears(x, weight);
  if (precision == "float16") {
    // oneDNN multiplies float16 only where the CPU does.
    if (!has_feature("avx512_fp16")) return {};
    return half_linears(x, weight, at::kHalf, 1.0 / 2048);
  }
  if (precision == "bfloat16") return half_linears(x, weight, at::kBFloat16, 1.0 / 256);
  if (precision == "int8") return int8_linears(x, weight);
  throw Error(codes::kInvalidArgument,
              "'precision' must be float64, float32, float16, bfloat16 or int8, not '" + precision + "'.");
}

}  // namespace ltrp::bench
