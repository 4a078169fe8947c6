#include "kernels/linear.h"

#include <ATen/ATen.h>

namespace ltrp {

bool has_fast_products(Precision precision, c10::DeviceType device) {
  return backend_of(device).has_fast_products(precision);
}

RoundedLinear::RoundedLinear(const at::Tensor& weight, Precision precision)
    : backend_(&backend_of(weight)), weight_(backend_->pack(weight, precision)) {}

ProductRows RoundedLinear::operator()(const RoundedRows& x) const { return backend_->multiply(weight_, x); }

int64_t RoundedLinear::packed_bytes() const {
  int64_t each = 2;
  if (weight_.precision == Precision::kFloat32) each = 4;
  if (weight_.precision == Precision::kInt8 || weight_.precision == Precision::kFloat8) each = 1;
  return weight_.outputs * weight_.inputs * each;
}

at::Tensor product_values(const ProductRows& product) {
  at::Tensor values = product.values.to(at::kFloat);
  if (product.scale.defined()) values = values * product.scale.unsqueeze(1);
  return product.column_scale.defined() ? values * product.column_scale : values;
}

}  // namespace ltrp
