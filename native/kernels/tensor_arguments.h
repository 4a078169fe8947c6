// From tensors to the arguments of the kernels.
#pragma once

#include <ATen/ATen.h>

#include <cstdint>

#include "kernels/backend.h"
#include "kernels/forward.h"

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

inline const int64_t* longs(const at::Tensor& x) {
  TORCH_CHECK(x.is_contiguous() && x.scalar_type() == at::kLong, "contiguous int64 ids are expected");
  return x.const_data_ptr<int64_t>();
}

// A product of `rows` rows, or none.
inline args::Product product_of(const ProductRows& product, int64_t rows, int64_t width) {
  args::Product result;
  if (!product.values.defined()) return result;
  const at::ScalarType type = product.values.scalar_type();
  switch (type) {
    case at::kFloat:
      result.encoding = args::Encoding::kFloat32;
      break;
    case at::kBFloat16:
      result.encoding = args::Encoding::kBfloat16;
      break;
    case at::kInt:
      result.encoding = args::Encoding::kInt32;
      break;
    default:
      TORCH_CHECK(false, "a product in float32, bfloat16 or int32 is expected, not ", type);
  }
  TORCH_CHECK(product.values.is_contiguous(), "a contiguous product is expected");
  TORCH_CHECK(product.values.numel() == rows * width, "a product of ", rows, " rows of ", width,
              " values is expected, not ", product.values.sizes());
  TORCH_CHECK(!product.scale.defined() || product.scale.numel() == rows, "a scale for each of ", rows,
              " rows is expected, not ", product.scale.numel());
  TORCH_CHECK(!product.column_scale.defined() || product.column_scale.numel() == width,
              "a scale for each of ", width, " columns is expected, not ", product.column_scale.numel());
  result.values = product.values.const_data_ptr();
  if (product.scale.defined()) result.scale = floats(product.scale);
  if (product.column_scale.defined()) result.column_scale = floats(product.column_scale);
  return result;
}

inline args::PackedRows rows_of(const RowRange& range) {
  if (!range.ids.defined()) return {nullptr, range.begin};
  return {ints(range.ids) + range.begin, 0};
}

// Room for `rows` rounded rows on the device of `like`, and where the kernel writes them.
inline RoundedRows rounded_rows(const at::Tensor& like, int64_t rows, int64_t width, Precision precision,
                                args::Rounded& out) {
  const auto tensor = [&](at::IntArrayRef sizes, at::ScalarType type) {
    return at::empty(sizes, like.options().dtype(type));
  };
  RoundedRows result;
  out.encoding = backend_of(like).encoding(precision);
  bool scaled = true;
  at::ScalarType type = at::kFloat;
  switch (out.encoding) {
    case args::Encoding::kFloat32:
      scaled = false;
      break;
    case args::Encoding::kBfloat16:
      type = at::kBFloat16;
      scaled = false;
      break;
    case args::Encoding::kFloat16:
      type = at::kHalf;
      break;
    case args::Encoding::kFloat8:
      type = at::kFloat8_e4m3fn;
      break;
    case args::Encoding::kUint8:
      type = at::kByte;
      break;
    case args::Encoding::kInt8:
      type = at::kChar;
      result.zero_point = 0;
      break;
    case args::Encoding::kInt32:
      TORCH_CHECK(false, "rows are not rounded to int32");
  }
  result.values = tensor({rows, width}, type);
  out.values = result.values.mutable_data_ptr();
  if (scaled) {
    result.scale = tensor({rows}, at::kFloat);
    out.scale = result.scale.mutable_data_ptr<float>();
  }
  return result;
}

}  // namespace ltrp
