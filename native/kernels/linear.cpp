#include "kernels/linear.h"

#include <ATen/ATen.h>

#include "kernels/forward.h"

namespace ltrp {

bool has_fast_products(Precision precision, c10::DeviceType device) {
  return backend_of(device).has_fast_products(precision);
}

LowPrecisionLinear::LowPrecisionLinear(const at::Tensor& weight, Precision precision)
    : backend_(&backend_of(weight)), weight_(backend_->pack(weight, precision)) {}

ProductRows LowPrecisionLinear::operator()(const RoundedRows& x) const {
  return backend_->multiply(weight_, x, nullptr);
}

void LowPrecisionLinear::write(const RoundedRows& x, const ProductRows& into) const {
  backend_->multiply(weight_, x, &into);
}

RoundedRows LowPrecisionLinear::gelu(const RoundedRows& x, const at::Tensor& bias) const {
  if (weight_.precision == Precision::kFloat32 && !backend_->asynchronous) {
    return {packed_linear(x.values, weight_.values, bias, /*gelu=*/true), {}};
  }
  return gelu_rows((*this)(x), bias, weight_.precision);
}

int64_t LowPrecisionLinear::packed_bytes() const {
  return weight_.outputs * weight_.inputs * traits_of(weight_.precision).bytes;
}

at::Tensor product_values(const ProductRows& product) {
  at::Tensor values = product.values.to(at::kFloat);
  if (product.scale.defined()) values = values * product.scale.unsqueeze(1);
  return product.column_scale.defined() ? values * product.column_scale : values;
}

}  // namespace ltrp
