// Matrix products of the CUDA backend: cuBLASLt through LibTorch.
#pragma once

#include "kernels/backend.h"

namespace ltrp::cuda {

bool has_fast_products(Precision precision);
args::Encoding encoding(Precision precision);
PackedWeight pack(const at::Tensor& weight, Precision precision);
ProductRows multiply(const PackedWeight& weight, const RoundedRows& x, const ProductRows* into);

}  // namespace ltrp::cuda
