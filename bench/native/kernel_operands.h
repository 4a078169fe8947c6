// Operands of the delta kernels' cases, and what ATen's operators make of them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "kernels/delta.h"

namespace ltrp::bench {

// All variants of one image over all its tokens, and all their rows.
VariantSet one_image();
RowRange all_rows();

// What a matrix product hands to a kernel: normal values of this magnitude, with scales where there are
// bytes.
ProductRows product_rows(int64_t width, double magnitude, Precision precision, uint64_t stream);

// The product itself by ATen's operators: [rows, width] float32.
at::Tensor plain_product(const ProductRows& product);

// x [rows, width] rounded by ATen's operators.
RoundedRows plain_rounded(const at::Tensor& x, Precision precision);

std::vector<at::Tensor> tensors_of(const RoundedRows& rows);

// Of one value of a precision.
struct Traffic {
  // Largest admissible error of rounded rows relative to the largest value: one on the edge between two steps
  // may be rounded either way.
  double tolerance;
  // Bytes: in a product, in rounded rows, and what plain_product() and plain_rounded() move for it.
  double product, rounded, plain_product, plain_rounded;
};
Traffic traffic(Precision precision);

// Rows [T, width] of the anchor, and those of its variants [V * T, width], to be added to one another.
at::Tensor per_variant(const at::Tensor& anchor);
at::Tensor by_variant(const at::Tensor& rows);

}  // namespace ltrp::bench
