// Matrix products with weights packed once: y = x W^T (+ b). On a CPU our own at every level
// (kernels/cpu/panels.h): a row's result has the same bits whatever the rows beside it and the threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/backend.h"

namespace ltrp {

// Whether the device multiplies in that precision with instructions made for it. On a CPU the level in use
// (kernels/simd.h) says: bfloat16 needs AVX512_BF16 and int8 VNNI, or that they are to be emulated; float32
// is always there. What is not fast can be multiplied all the same.
bool has_fast_products(Precision precision, c10::DeviceType device = c10::DeviceType::CPU);

// Rows for a matrix product: x = (values - zero_point) * scale with values [R, W] and scale [R]. kInt8: uint8
// on a CPU, int8 elsewhere. kFloat32 and kBfloat16: scale is undefined, the values are the rows. zero_point:
// of uint8.
struct RoundedRows {
  at::Tensor values;
  at::Tensor scale;
  int64_t zero_point = 128;
};

// A product of rounded rows: values [R, N] in bfloat16 (or float32, or int32), still to be multiplied by
// scale [R] and column_scale [N] where they are defined.
struct ProductRows {
  at::Tensor values;
  at::Tensor scale = {};
  at::Tensor column_scale = {};
};

// With the scales multiplied in: [R, N] float32.
at::Tensor product_values(const ProductRows& product);

// y = x W^T in low precision, no bias: for differences, whose bias cancels. Weights are rounded once: to
// bfloat16, or to int8 with one scale per output, max |w| / 127.
class LowPrecisionLinear {
 public:
  LowPrecisionLinear() = default;
  LowPrecisionLinear(const at::Tensor& weight, Precision precision);  // weight [N, K] float32
  ProductRows operator()(const RoundedRows& x) const;
  // The same into tensors of the product's shape and type. On a CPU only; c10::Error elsewhere.
  void write(const RoundedRows& x, const ProductRows& into) const;
  // gelu(x W^T + bias), rounded for a product in the same precision.
  RoundedRows gelu(const RoundedRows& x, const at::Tensor& bias) const;
  int64_t packed_bytes() const;

 private:
  const Backend* backend_ = nullptr;
  PackedWeight weight_;
};

// Float32 weights in the layout of the products; undefined on other devices.
at::Tensor packed_weight(const at::Tensor& weight);
// x [..., K] float32 contiguous, packed [N, K] from packed_weight: x W^T + bias, then GELU if asked for.
at::Tensor packed_linear(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias,
                         bool gelu = false);
// The same plus `residual` [..., N].
at::Tensor packed_linear_add(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias,
                             const at::Tensor& residual);

}  // namespace ltrp
