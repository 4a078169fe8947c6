#include "kernels/cpu/products.h"

#include <ATen/ATen.h>

#include "kernels/cpu/panels.h"
#include "kernels/cpu/simd_dispatch.h"
#include "kernels/linear.h"
#include "kernels/simd.h"

namespace ltrp {

namespace cpu {

bool has_fast_products(Precision precision) {
  switch (precision) {
    case Precision::kFloat32:
      return true;
    case Precision::kBfloat16:
      return simd::has_bfloat16_products() || precisions_are_emulated();
    case Precision::kInt8:
      return simd::has_int8_products() || precisions_are_emulated();
    default:
      return false;
  }
}

args::Encoding encoding(Precision precision) {
  switch (precision) {
    case Precision::kBfloat16:
      return args::Encoding::kBfloat16;
    case Precision::kInt8:
      return args::Encoding::kUint8;
    default:
      return args::Encoding::kFloat32;
  }
}

PackedWeight pack(const at::Tensor& weight, Precision precision) {
  PackedWeight result{precision, weight.size(0), weight.size(1), {}, {}};
  switch (precision) {
    case Precision::kInt8: {
      result.scale = weight.abs().amax(1).div_(127).clamp_min_(1e-30);
      const at::Tensor bytes = (weight / result.scale.unsqueeze(1)).round_().clamp_(-127, 127).to(at::kChar);
      result.sums = panel_sums(bytes);
      result.scale = panel_scale(result.scale);
      result.values = panels_of(bytes);
      break;
    }
    case Precision::kBfloat16:
      result.values = panels_of(weight.to(at::kBFloat16));
      break;
    case Precision::kFloat32:
      result.values = panels_of(weight);
      break;
    default:
      TORCH_CHECK(false, "float16 and fp8 have no matrix products on the CPU");
  }
  return result;
}

ProductRows multiply(const PackedWeight& weight, const RoundedRows& x, const ProductRows* into) {
  if (into == nullptr) return {multiply_panels(weight, x, {}), x.scale, {}};
  multiply_panels(weight, x, into->values);
  if (x.scale.defined()) into->scale.copy_(x.scale);
  return *into;
}

}  // namespace cpu

at::Tensor packed_weight(const at::Tensor& weight) {
  return weight.is_cpu() ? cpu::panels_of(weight) : at::Tensor();
}

at::Tensor packed_linear(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias, bool gelu) {
  return cpu::linear_panels(x, packed, bias, gelu, {});
}

at::Tensor packed_linear_add(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias,
                             const at::Tensor& residual) {
  return cpu::linear_panels(x, packed, bias, /*gelu=*/false, residual);
}

}  // namespace ltrp
