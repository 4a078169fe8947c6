#include "kernels/linear.h"

#include <ATen/ATen.h>
#include <ATen/Context.h>
#include <ATen/core/dispatch/Dispatcher.h>

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

bool has_fast_products(Precision precision) {
  if (precision == Precision::kFloat32) return true;
  if (!at::hasMKLDNN()) return false;
#if defined(__x86_64__)
  __builtin_cpu_init();
  // AMX comes with both.
  return precision == Precision::kBfloat16 ? __builtin_cpu_supports("avx512bf16") != 0
                                           : __builtin_cpu_supports("avx512vnni") != 0;
#else
  return false;
#endif
}

RoundedLinear::RoundedLinear(const at::Tensor& weight, Precision precision)
    : precision_(precision), outputs_(weight.size(0)), inputs_(weight.size(1)) {
  if (precision == Precision::kInt8) {
    scale_ = weight.abs().amax(1).div_(127).clamp_min_(1e-30);
    zero_point_ = at::zeros({outputs_}, at::kInt);
    const at::Tensor bytes = (weight / scale_.unsqueeze(1)).round_().clamp_(-127, 127).to(at::kChar);
    using Signature = at::Tensor(at::Tensor, std::optional<c10::List<int64_t>>);
    static const auto prepack = operator_named<Signature>("onednn::qlinear_prepack");
    packed_ = prepack.call(bytes, std::nullopt);
  } else if (at::hasMKLDNN()) {
    packed_ = reorder_weight(precision == Precision::kBfloat16 ? weight.to(at::kBFloat16) : weight);
  } else {
    packed_ = weight;  // kFloat32: nothing else is fast there
  }
}

ProductRows RoundedLinear::operator()(const RoundedRows& x) const {
  if (precision_ == Precision::kFloat32 && !at::hasMKLDNN()) return {at::linear(x.values, packed_), {}};
  if (precision_ != Precision::kInt8) return {linear_pointwise(x.values, packed_, std::nullopt, "none"), {}};
  using Signature = at::Tensor(at::Tensor, double, int64_t, at::Tensor, at::Tensor, at::Tensor,
                               std::optional<at::Tensor>, double, int64_t, std::optional<at::ScalarType>,
                               std::string_view, c10::List<std::optional<at::Scalar>>, std::string_view);
  static const auto call = operator_named<Signature>("onednn::qlinear_pointwise");
  // Unsigned activations with a zero point: products of two signed operands take a slow path.
  return {call.call(x.values, 1.0, x.zero_point, packed_, scale_, zero_point_, std::nullopt, 1.0, 0,
                    at::kBFloat16, "none", Arguments(), "none"),
          x.scale};
}

int64_t RoundedLinear::packed_bytes() const {
  const int64_t each = precision_ == Precision::kInt8 ? 1 : precision_ == Precision::kBfloat16 ? 2 : 4;
  return outputs_ * inputs_ * each;
}

at::Tensor packed_weight(const at::Tensor& weight) {
  return at::hasMKLDNN() ? reorder_weight(weight) : at::Tensor();
}

at::Tensor packed_linear(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias, bool gelu) {
  return linear_pointwise(x, packed, bias, gelu ? "gelu" : "none");
}

at::Tensor packed_linear_add(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias,
                             const at::Tensor& residual) {
  using Signature = at::Tensor(const at::Tensor&, const at::Tensor&, const at::Tensor&,
                               const std::optional<at::Tensor>&, std::string_view);
  static const auto call = operator_named<Signature>("mkldnn::_linear_pointwise", "binary");
  return call.call(x, residual, packed, bias, "add");
}

}  // namespace ltrp
