// Products with packed weights for the CPU's backend, in panels.h.
#pragma once

#include "kernels/backend.h"

namespace ltrp::cpu {

bool has_fast_products(Precision precision);
args::Encoding encoding(Precision precision);
PackedWeight pack(const at::Tensor& weight, Precision precision);
ProductRows multiply(const PackedWeight& weight, const RoundedRows& x, const ProductRows* into);

}  // namespace ltrp::cpu
