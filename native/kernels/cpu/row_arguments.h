// From tensors to the arguments of the vector kernels, and rows shared out among threads.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <cstdint>

#include "kernels/cpu/simd_dispatch.h"
#include "kernels/linear.h"
#include "kernels/parallel.h"

namespace ltrp {

// The row kernels keep one row on the stack.
constexpr int64_t kWidestRow = int64_t{1} << 17;

inline int64_t width_of(const at::Tensor& x) {
  TORCH_CHECK(x.size(-1) <= kWidestRow, "rows of ", x.size(-1), " values are too wide");
  return x.size(-1);
}

inline const float* floats(const at::Tensor& x) {
  TORCH_CHECK(x.is_contiguous() && x.scalar_type() == at::kFloat, "a contiguous float32 tensor is expected");
  return x.const_data_ptr<float>();
}

inline const int32_t* ints(const at::Tensor& x) {
  if (!x.defined()) return nullptr;
  TORCH_CHECK(x.is_contiguous() && x.scalar_type() == at::kInt, "a contiguous int32 tensor is expected");
  return x.const_data_ptr<int32_t>();
}

// A product of `rows` rows, or none.
inline args::Product product_of(const ProductRows& product, int64_t rows, int64_t width) {
  args::Product result;
  if (!product.values.defined()) return result;
  const at::ScalarType type = product.values.scalar_type();
  TORCH_CHECK(product.values.is_contiguous() && (type == at::kFloat || type == at::kBFloat16),
              "a contiguous product in float32 or bfloat16 is expected");
  TORCH_CHECK(product.values.numel() == rows * width, "a product of ", rows, " rows of ", width,
              " values is expected, not ", product.values.sizes());
  TORCH_CHECK(!product.scale.defined() || product.scale.numel() == rows, "a scale for each of ", rows,
              " rows is expected, not ", product.scale.numel());
  result.encoding = type == at::kFloat ? args::Encoding::kFloat32 : args::Encoding::kBfloat16;
  result.values = product.values.const_data_ptr();
  if (product.scale.defined()) result.scale = floats(product.scale);
  return result;
}

// Room for `rows` rounded rows, and where the kernel writes them.
inline RoundedRows rounded_rows(int64_t rows, int64_t width, Precision precision, args::Rounded& out) {
  RoundedRows result;
  switch (precision) {
    case Precision::kBfloat16:
      result.values = at::empty({rows, width}, at::kBFloat16);
      out.encoding = args::Encoding::kBfloat16;
      break;
    case Precision::kInt8:
      result.values = at::empty({rows, width}, at::kByte);
      result.scale = at::empty({rows}, at::kFloat);
      out.encoding = args::Encoding::kUint8;
      out.scale = result.scale.mutable_data_ptr<float>();
      break;
    case Precision::kFloat32:
      result.values = at::empty({rows, width}, at::kFloat);
      out.encoding = args::Encoding::kFloat32;
  }
  out.values = result.values.mutable_data_ptr();
  return result;
}

// Calls the kernel for ranges of rows from several threads: some ten thousand values are worth one.
template <typename Kernel, typename Arguments>
void for_rows(int64_t rows, int64_t width, Kernel kernel, const Arguments& arguments) {
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width));
  at::parallel_for(0, rows, grain, [&](int64_t begin, int64_t end) { kernel(arguments, begin, end); });
}

// Heads a few at a time: one is long enough for a task, neighbours share what they read, and each thread
// needs its own workspace.
template <typename Kernel, typename Arguments>
void for_heads(int64_t heads, int64_t workspace, Kernel kernel, const Arguments& arguments) {
  const auto bytes = static_cast<size_t>(workspace) * sizeof(float);
  const int64_t at_a_time = std::clamp<int64_t>(heads / (4 * at::get_num_threads()), 1, 16);
  for_tasks((heads + at_a_time - 1) / at_a_time,
            [&] { return c10::GetAllocator(c10::kCPU)->allocate(bytes); },
            [&](int64_t task, const at::DataPtr& memory) {
              kernel(arguments, task * at_a_time, std::min(heads, (task + 1) * at_a_time),
                     static_cast<float*>(memory.get()));
            });
}

}  // namespace ltrp
