// Products with packed weights for the CPU's backend: our own (panels.h) or oneDNN's.
#pragma once

#include "kernels/backend.h"

namespace ltrp::cpu {

bool has_fast_products(Precision precision);
PackedWeight pack(const at::Tensor& weight, Precision precision);
ProductRows multiply(const PackedWeight& weight, const RoundedRows& x);

}  // namespace ltrp::cpu
