#include "kernels/cpu/products.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include "kernels/cpu/panels.h"
#include "kernels/linear.h"

namespace ltrp {

namespace {

using Arguments = c10::List<std::optional<at::Scalar>>;

// The operators that LibTorch's own compiler uses; they have no C++ function of their own.
template <typename Signature>
c10::TypedOperatorHandle<Signature> operator_named(const char* name, const char* overload = "") {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, overload).typed<Signature>();
}

at::Tensor linear_pointwise(const at::Tensor& x, const at::Tensor& weight,
                            const std::optional<at::Tensor>& bias, const char* activation) {
  using Signature =
      at::Tensor(const at::Tensor&, const at::Tensor&, const std::optional<at::Tensor>&, std::string_view,
                 c10::List<std::optional<at::Scalar>>, std::optional<std::string_view>);
  static const auto call = operator_named<Signature>("mkldnn::_linear_pointwise");
  return call.call(x, weight, bias, activation, Arguments(), std::string_view("none"));
}

at::Tensor reorder_weight(const at::Tensor& weight) {
  using Signature = at::Tensor(const at::Tensor&, std::optional<c10::SymInt>);
  static const auto call = operator_named<Signature>("mkldnn::_reorder_linear_weight");
  // No batch size given: a layout that serves any number of rows.
  return call.call(weight.contiguous(), std::nullopt);
}

}  // namespace

namespace cpu {

bool has_fast_products(Precision precision) {
  if (precision == Precision::kFloat32) return true;
  if (!at::hasMKLDNN()) return false;
#if defined(__x86_64__)
  __builtin_cpu_init();
  // AMX comes with both.
  if (precision == Precision::kBfloat16) return __builtin_cpu_supports("avx512bf16") != 0;
  return precision == Precision::kInt8 && __builtin_cpu_supports("avx512vnni") != 0;
#else
  return false;
#endif
}

PackedWeight pack(const at::Tensor& weight, Precision precision) {
  PackedWeight result{precision, weight.size(0), weight.size(1), {}, {}, {}};
  const bool ours = multiplies_panels(precision, result.inputs);
  switch (precision) {
    case Precision::kInt8: {
      result.scale = weight.abs().amax(1).div_(127).clamp_min_(1e-30);
      const at::Tensor bytes = (weight / result.scale.unsqueeze(1)).round_().clamp_(-127, 127).to(at::kChar);
      if (ours) {
        result.sums = panel_sums(bytes);
        result.scale = panel_scale(result.scale);
        result.values = panels_of(bytes);
        break;
      }
      result.zero_point = at::zeros({result.outputs}, at::kInt);
      using Signature = at::Tensor(at::Tensor, std::optional<c10::List<int64_t>>);
      static const auto prepack = operator_named<Signature>("onednn::qlinear_prepack");
      result.values = prepack.call(bytes, std::nullopt);
      break;
    }
    case Precision::kBfloat16:
      result.values = ours ? panels_of(weight.to(at::kBFloat16)) : reorder_weight(weight.to(at::kBFloat16));
      break;
    case Precision::kFloat32:
      result.values = packed_weight(weight);
      if (!result.values.defined()) result.values = weight;
      break;
    default:
      TORCH_CHECK(false, "float16 and fp8 have no matrix products on the CPU");
  }
  return result;
}

ProductRows multiply(const PackedWeight& weight, const RoundedRows& x) {
  if (is_panels(weight.values)) return {multiply_panels(weight, x), x.scale, {}};
  if (weight.precision == Precision::kFloat32 && !at::hasMKLDNN()) {
    return {at::linear(x.values, weight.values), {}, {}};
  }
  if (weight.precision != Precision::kInt8) {
    return {linear_pointwise(x.values, weight.values, std::nullopt, "none"), {}, {}};
  }
  using Signature = at::Tensor(at::Tensor, double, int64_t, at::Tensor, at::Tensor, at::Tensor,
                               std::optional<at::Tensor>, double, int64_t, std::optional<at::ScalarType>,
                               std::string_view, c10::List<std::optional<at::Scalar>>, std::string_view);
  static const auto call = operator_named<Signature>("onednn::qlinear_pointwise");
  // Unsigned activations with a zero point: products of two signed operands take a slow path.
  return {call.call(x.values, 1.0, x.zero_point, weight.values, weight.scale, weight.zero_point, std::nullopt,
                    1.0, 0, at::kBFloat16, "none", Arguments(), "none"),
          x.scale,
          {}};
}

}  // namespace cpu

at::Tensor packed_weight(const at::Tensor& weight) {
  if (!weight.is_cpu()) return {};
  if (cpu::multiplies_panels(Precision::kFloat32, weight.size(1))) return cpu::panels_of(weight);
  return at::hasMKLDNN() ? reorder_weight(weight) : at::Tensor();
}

at::Tensor packed_linear(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias, bool gelu) {
  if (cpu::is_panels(packed)) return cpu::linear_panels(x, packed, bias, gelu, {});
  return linear_pointwise(x, packed, bias, gelu ? "gelu" : "none");
}

at::Tensor packed_linear_add(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias,
                             const at::Tensor& residual) {
  if (cpu::is_panels(packed)) return cpu::linear_panels(x, packed, bias, /*gelu=*/false, residual);
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const std::optional<at::Tensor>&, std::string_view);
  static const auto call = operator_named<Signature>("mkldnn::_linear_pointwise", "binary");
  return call.call(x, residual, packed, bias, "add");
}

}  // namespace ltrp
