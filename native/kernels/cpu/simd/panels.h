// Matrix products with weights in panels: the layout that the kernel reads as one stream, and its arguments.
#pragma once

#include <cstdint>

#include "kernels/arguments.h"

namespace ltrp::simd {

// A panel holds the weights of some outputs (KernelTable::panel_outputs) for all K inputs:
// [K / depth][outputs][depth], where `depth` inputs lie side by side as one instruction takes them (float32
// 1, bfloat16 2, int8 4). The last panel and the last inputs are filled up with zeros.

// y[r, n] = (sum over k of x[r, k] w[n, k] - zero_point sums[n]) scale[n] + bias[n], then GELU, plus
// residual[r, n]. The bits of a row depend on nothing but the row, the weights and the fields below.
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
  void* y = nullptr;                                   // [rows, N]: kFloat32 float32, else bfloat16
  // Whether the processor multiplies so and rounds to bfloat16 by one instruction; several do the same.
  bool native_int8 = false;
  bool native_bfloat16 = false;
  bool native_tiles = false;  // AMX, for both
};

}  // namespace ltrp::simd
