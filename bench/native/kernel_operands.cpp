#include "kernel_operands.h"

#include <ATen/ATen.h>

#include "kernel_cases.h"

namespace ltrp::bench {

VariantSet one_image() {
  VariantSet set;
  set.variants = shape::kVariants;
  set.tokens = shape::kTokens;
  set.image = at::zeros({shape::kVariants}, at::kInt);
  return set;
}

RowRange all_rows() { return {0, shape::kRows, {}}; }

ProductRows product_rows(int64_t width, double magnitude, Precision precision, uint64_t stream) {
  ProductRows product;
  const at::Tensor values = normal_values({shape::kRows, width}, stream);
  if (precision == Precision::kInt8) {
    product.scale = magnitude * (normal_values({shape::kRows}, stream + 1).abs() + 0.5);
    product.values = values.to(at::kBFloat16);
  } else {
    product.values = (magnitude * values).to(precision == Precision::kFloat32 ? at::kFloat : at::kBFloat16);
  }
  return product;
}

at::Tensor plain_product(const ProductRows& product) {
  const at::Tensor wide = product.values.to(at::kFloat);
  return product.scale.defined() ? wide * product.scale.unsqueeze(1) : wide;
}

RoundedRows plain_rounded(const at::Tensor& x, Precision precision) {
  if (precision == Precision::kFloat32) return {x, {}};
  if (precision == Precision::kBfloat16) return {x.to(at::kBFloat16), {}};
  const at::Tensor scale = x.abs().amax(1) / 127;
  return {((x / scale.unsqueeze(1)).round() + 128).to(at::kByte), scale};
}

std::vector<at::Tensor> tensors_of(const RoundedRows& rows) {
  return rows.scale.defined() ? std::vector{rows.values, rows.scale} : std::vector{rows.values};
}

Traffic traffic(Precision precision) {
  switch (precision) {
    case Precision::kFloat32:
      return {1e-4, 4, 4, 0, 0};  // plain LibTorch cancels digits here, ours does not
    case Precision::kBfloat16:
      return {1.0 / 128, 2, 2, 2 + 4, 4 + 2};
    // int8: magnitude, largest, quotient, nearest, shift, conversion.
    default:
      return {1.01 / 255, 2, 1, 2 + 4 + 8, 8 + 4 + 8 + 8 + 8 + 5};
  }
}

at::Tensor per_variant(const at::Tensor& anchor) { return anchor.unsqueeze(0); }

at::Tensor by_variant(const at::Tensor& rows) {
  return rows.view({shape::kVariants, shape::kTokens, rows.size(1)});
}

}  // namespace ltrp::bench
