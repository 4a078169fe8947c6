// Matrix products with weights in panels: the layout that the kernel reads as one stream, and its arguments.
#pragma once

#include <cstdint>

#include "kernels/arguments.h"

namespace ltrp::simd {

// Outputs in a panel. A panel holds its outputs' weights for all K inputs: [K / depth][kPanel][depth], where
// `depth` inputs lie side by side as one instruction takes them (float32 1, bfloat16 2, int8 4). The last
// panel is filled up with zeros.
constexpr int64_t kPanel = 64;

// y[r, n] = (sum over k of x[r, k] w[n, k] - zero_point sums[n]) scale[n] + bias[n], then GELU, plus
// residual[r, n].
struct MatrixProduct {
  args::Encoding encoding = args::Encoding::kFloat32;  // of x and w; kUint8: x unsigned, w signed
  int64_t inputs = 0;                                  // K, a multiple of the encoding's depth
  int64_t outputs = 0;                                 // N
  const void* x = nullptr;                             // [rows, K]
  const void* panels = nullptr;                        // 64-byte aligned
  const int32_t* sums = nullptr;                       // [N in whole panels], kUint8 only
  int32_t zero_point = 0;                              // kUint8 only
  const float* scale = nullptr;                        // [N in whole panels], kUint8 only
  const float* bias = nullptr;                         // [N], kFloat32 only; may be null
  bool gelu = false;                                   // kFloat32 only
  const float* residual = nullptr;                     // [rows, N], kFloat32 only; may be null
  bool native_bfloat16 = false;                        // the processor rounds to bfloat16 itself
  void* y = nullptr;                                   // [rows, N]: kFloat32 float32, else bfloat16
};

}  // namespace ltrp::simd
