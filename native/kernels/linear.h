// Matrix products with weights packed once, through oneDNN: y = x W^T (+ b).
//
// oneDNN and not MKL also in float32: on processors that are not Intel's, MKL keeps to 256-bit vectors and
// reaches less than half of what oneDNN does (docs/benchmarks.md).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

namespace ltrp {

// What a matrix product takes its left operand in.
enum class Precision { kFloat32, kBfloat16, kInt8 };

// Whether this processor multiplies in that precision with instructions made for it: bfloat16 needs
// AVX512_BF16 or AMX, int8 needs VNNI. float32 is always there.
bool has_fast_products(Precision precision);

// Rows for a matrix product. kInt8: values uint8 [R, W], x = (values - zero_point) * scale with scale [R];
// otherwise the values are the rows and scale is undefined.
struct RoundedRows {
  at::Tensor values;
  at::Tensor scale;
  int64_t zero_point = 128;
};

// A product of rounded rows: values bfloat16 [R, N] (float32 for kFloat32); row r is still to be multiplied
// by scale[r] where scale is defined.
struct ProductRows {
  at::Tensor values;
  at::Tensor scale;
};

// y = x W^T in low precision, no bias: for differences, whose bias cancels. Weights are rounded once: to
// bfloat16, or to int8 with one scale per output, max |w| / 127.
class RoundedLinear {
 public:
  RoundedLinear() = default;
  RoundedLinear(const at::Tensor& weight, Precision precision);  // weight [N, K] float32
  ProductRows operator()(const RoundedRows& x) const;
  int64_t packed_bytes() const;

 private:
  Precision precision_ = Precision::kFloat32;
  int64_t outputs_ = 0;
  int64_t inputs_ = 0;
  at::Tensor packed_;
  at::Tensor scale_;       // [N], kInt8
  at::Tensor zero_point_;  // [N] zeros, kInt8
};

// Float32 weights in oneDNN's layout; undefined where LibTorch was built without oneDNN.
at::Tensor packed_weight(const at::Tensor& weight);
// x [..., K] float32 contiguous, packed [N, K] from packed_weight: x W^T + bias, then GELU if asked for.
at::Tensor packed_linear(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias,
                         bool gelu = false);
// The same plus `residual` [..., N].
at::Tensor packed_linear_add(const at::Tensor& x, const at::Tensor& packed, const at::Tensor& bias,
                             const at::Tensor& residual);

}  // namespace ltrp
