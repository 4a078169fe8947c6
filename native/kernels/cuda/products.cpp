#include "kernels/cuda/products.h"

#include <ATen/ATen.h>

#include "kernels/cuda/current_device.h"
#include "kernels/linear.h"

namespace ltrp::cuda {

namespace {

constexpr double kLargestFloat8 = 448;  // e4m3

// What cuBLASLt asks of the inner and the outer size in 8 bits, and of the rows of an int8 product.
constexpr int64_t kInEights = 16;
constexpr int64_t kFewestInt8Rows = 17;

bool fits_eight_bits(const PackedWeight& weight) {
  return weight.inputs % kInEights == 0 && weight.outputs % kInEights == 0;
}

}  // namespace

bool has_fast_products(Precision precision) {
  const int capability = compute_capability();
  switch (precision) {
    case Precision::kFloat32:
    case Precision::kFloat16:
      return true;
    case Precision::kBfloat16:
    case Precision::kInt8:
      return capability >= 80;
    case Precision::kFloat8:
      return capability >= 89;
  }
  return false;
}

args::Encoding encoding(Precision precision) {
  switch (precision) {
    case Precision::kFloat32:
      return args::Encoding::kFloat32;
    case Precision::kFloat16:
      return args::Encoding::kFloat16;
    case Precision::kBfloat16:
      return args::Encoding::kBfloat16;
    case Precision::kFloat8:
      return args::Encoding::kFloat8;
    case Precision::kInt8:
      return args::Encoding::kInt8;
  }
  TORCH_CHECK(false, "no such precision");
}

PackedWeight pack(const at::Tensor& weight, Precision precision) {
  PackedWeight result{precision, weight.size(0), weight.size(1), {}, {}};
  switch (precision) {
    case Precision::kFloat32:
      result.values = weight.contiguous();
      break;
    case Precision::kFloat16:
      result.values = weight.to(at::kHalf);
      break;
    case Precision::kBfloat16:
      result.values = weight.to(at::kBFloat16);
      break;
    case Precision::kFloat8:
      result.scale = weight.abs().amax(1).div_(kLargestFloat8).clamp_min_(1e-30);
      result.values = (weight / result.scale.unsqueeze(1)).to(at::kFloat8_e4m3fn);
      result.one = at::ones({}, result.scale.options());
      break;
    case Precision::kInt8:
      result.scale = weight.abs().amax(1).div_(127).clamp_min_(1e-30);
      result.values = (weight / result.scale.unsqueeze(1)).round_().clamp_(-127, 127).to(at::kChar);
      break;
  }
  return result;
}

ProductRows multiply(const PackedWeight& weight, const RoundedRows& x, const ProductRows* into) {
  TORCH_CHECK(into == nullptr, "products on a GPU are new tensors");
  switch (weight.precision) {
    case Precision::kFloat32:
    case Precision::kBfloat16:
      return {at::linear(x.values, weight.values), x.scale, {}};
    case Precision::kFloat16:
      // Rows are below 2 in size, so that sums stay far from float16's largest value.
      return {at::linear(x.values, weight.values).to(at::kFloat), x.scale, {}};
    case Precision::kFloat8: {
      // Both scales are left to who reads the product, at no cost; cuBLASLt is fastest with one scale for
      // all.
      if (fits_eight_bits(weight) && x.values.is_cuda()) {
        return {at::_scaled_mm(x.values, weight.values.t(), weight.one, weight.one, {}, {}, at::kBFloat16),
                x.scale, weight.scale};
      }
      const at::Tensor wide = at::linear(x.values.to(at::kFloat), weight.values.to(at::kFloat));
      return {wide.to(at::kBFloat16), x.scale, weight.scale};
    }
    case Precision::kInt8:
      if (fits_eight_bits(weight) && x.values.size(0) >= kFewestInt8Rows) {
        return {at::_int_mm(x.values, weight.values.t()), x.scale, weight.scale};
      }
      return {at::linear(x.values.to(at::kFloat), weight.values.to(at::kFloat)), x.scale, weight.scale};
  }
  TORCH_CHECK(false, "no such precision");
}

}  // namespace ltrp::cuda
