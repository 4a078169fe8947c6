// Device helpers that every kernel shares: reading a matrix product in whatever it was stored, and storing
// values in what the next product wants.
#pragma once

#include "kernels/arguments.h"
#include "kernels/cuda/device.h"

// Loops over registers must be unrolled whole: an array that is indexed at run time lives in local memory.
#if defined(__CUDACC__)
#define LTRP_UNROLL _Pragma("unroll")
#define LTRP_UNROLL_TWICE _Pragma("unroll 2")
#define LTRP_NO_UNROLL _Pragma("unroll 1")
#else
#define LTRP_UNROLL
#define LTRP_UNROLL_TWICE
#define LTRP_NO_UNROLL
#endif

namespace ltrp::cuda {

using args::Encoding;

constexpr int kLanes = 32;
constexpr unsigned kAllLanes = 0xffffffffU;

// kCount consecutive values of a row: 4 where widths and addresses allow it, else 1.
template <int kCount>
struct Values {
  float x[kCount];
};

// body(i) for each of kCount values.
template <int kCount, typename Body>
__device__ __forceinline__ void for_values(Body body) {
  LTRP_UNROLL
  for (int i = 0; i < kCount; ++i) body(i);
}

template <int kCount>
__device__ __forceinline__ Values<kCount> load_values(const float* from) {
  Values<kCount> result;
  if constexpr (kCount == 4) {
    const float4 x = load4(from);
    result.x[0] = x.x;
    result.x[1] = x.y;
    result.x[2] = x.z;
    result.x[3] = x.w;
  } else {
    result.x[0] = *from;
  }
  return result;
}

template <int kCount>
__device__ __forceinline__ void store_values(float* to, const Values<kCount>& value) {
  if constexpr (kCount == 4) {
    store4(to, make_float4(value.x[0], value.x[1], value.x[2], value.x[3]));
  } else {
    *to = value.x[0];
  }
}

// bfloat16 is the upper half of a float32.
__device__ __forceinline__ float low_bfloat16(uint32_t pair) { return __uint_as_float(pair << 16); }
__device__ __forceinline__ float high_bfloat16(uint32_t pair) { return __uint_as_float(pair & 0xffff0000U); }

// kCount values of a product as they are stored, before its scales; `at` in values.
template <Encoding kEncoding, int kCount>
__device__ __forceinline__ Values<kCount> load_stored(const void* values, int64_t at) {
  Values<kCount> result;
  if constexpr (kEncoding == Encoding::kBfloat16) {
    const uint16_t* from = static_cast<const uint16_t*>(values) + at;
    if constexpr (kCount == 4) {
      const uint2 x = *reinterpret_cast<const uint2*>(from);
      result.x[0] = low_bfloat16(x.x);
      result.x[1] = high_bfloat16(x.x);
      result.x[2] = low_bfloat16(x.y);
      result.x[3] = high_bfloat16(x.y);
    } else {
      result.x[0] = low_bfloat16(*from);
    }
  } else if constexpr (kEncoding == Encoding::kInt32) {
    const int32_t* from = static_cast<const int32_t*>(values) + at;
    if constexpr (kCount == 4) {
      const int4 x = *reinterpret_cast<const int4*>(from);
      result.x[0] = static_cast<float>(x.x);
      result.x[1] = static_cast<float>(x.y);
      result.x[2] = static_cast<float>(x.z);
      result.x[3] = static_cast<float>(x.w);
    } else {
      result.x[0] = static_cast<float>(*from);
    }
  } else {
    result = load_values<kCount>(static_cast<const float*>(values) + at);
  }
  return result;
}

// One row of a product whose encoding is known at compile time.
template <Encoding kEncoding>
struct ProductRow {
  const void* values;
  int64_t first;  // of the row, in values
  float scale;
  const float* column_scale;

  __device__ __forceinline__ ProductRow(const args::Product& product, int64_t row, int64_t width)
      : values(product.values),
        first(row * width),
        scale(product.scale != nullptr ? product.scale[row] : 1.0F),
        column_scale(product.column_scale) {}

  template <int kCount>
  __device__ __forceinline__ Values<kCount> piece(int column) const {
    Values<kCount> result = load_stored<kEncoding, kCount>(values, first + column);
    for_values<kCount>([&](int i) { result.x[i] *= scale; });
    if (column_scale != nullptr) {
      const Values<kCount> columns = load_values<kCount>(column_scale + column);
      for_values<kCount>([&](int i) { result.x[i] *= columns.x[i]; });
    }
    return result;
  }
};

// Calls body(ProductRow<encoding>): the choice is made once per row and not once per value.
template <typename Body>
__device__ __forceinline__ void with_row(const args::Product& product, int64_t row, int64_t width,
                                         Body body) {
  if (product.encoding == Encoding::kBfloat16) {
    body(ProductRow<Encoding::kBfloat16>(product, row, width));
  } else if (product.encoding == Encoding::kInt32) {
    body(ProductRow<Encoding::kInt32>(product, row, width));
  } else {
    body(ProductRow<Encoding::kFloat32>(product, row, width));
  }
}

// How a row of largest magnitude `most` is scaled: values are stored as x * inverse and mean that times
// scale. kFloat16: a power of two that puts `most` into [1, 2), or below 1 where `most` is denormal; kFloat8:
// `most` becomes 448, the largest e4m3; kInt8: 127.
struct RowScale {
  float scale;
  float inverse;
};

__device__ __forceinline__ RowScale row_scale(Encoding encoding, float most) {
  // A row of zeros has scale 1. Below `tiniest` the inverse would overflow; such a row is as good as zero.
  if (!(most > 0)) return {1.0F, encoding == Encoding::kFloat16 ? 1.0F : 0.0F};
  if (encoding == Encoding::kFloat16) {
    const uint32_t exponent = __float_as_uint(most) >> 23;  // the sign is zero
    const uint32_t kept = exponent < 1 ? 1 : exponent > 253 ? 253 : exponent;
    return {__uint_as_float(kept << 23), __uint_as_float((254 - kept) << 23)};
  }
  const float largest = encoding == Encoding::kFloat8 ? 448.0F : 127.0F;
  const float tiniest = encoding == Encoding::kFloat8 ? 1e-35F : 1e-36F;
  return {most / largest, most > tiniest ? largest / most : 0.0F};
}

// x in [-127, 127] to the nearest integer, ties to even, in the low byte: adding 1.5 * 2^23 leaves the
// integer in the last bits of the mantissa.
__device__ __forceinline__ uint32_t nearest_byte(float x) { return __float_as_uint(x + 12582912.0F) & 0xffU; }

// Two e4m3 bytes, the first in the low one; what is beyond 448 becomes that.
__device__ __forceinline__ uint32_t float8_pair(float low, float high) {
  return static_cast<uint32_t>(__nv_cvt_float2_to_fp8x2(make_float2(low, high), __NV_SATFINITE, __NV_E4M3));
}
__device__ __forceinline__ uint32_t int8_pair(float low, float high) {
  return nearest_byte(low) | nearest_byte(high) << 8;
}

__device__ __forceinline__ uint32_t bfloat16_pair(float low, float high) {
  return bits_as<uint32_t>(__floats2bfloat162_rn(low, high));
}
__device__ __forceinline__ uint32_t float16_pair(float low, float high) {
  return bits_as<uint32_t>(__floats2half2_rn(low, high));
}

// Stores values at `at`, in values, in encoding kEncoding: already scaled, where the encoding has a scale.
template <Encoding kEncoding, int kCount>
__device__ __forceinline__ void store_encoded(void* values, int64_t at, const Values<kCount>& value) {
  if constexpr (kEncoding == Encoding::kFloat32) {
    store_values(static_cast<float*>(values) + at, value);
  } else if constexpr (kEncoding == Encoding::kBfloat16 || kEncoding == Encoding::kFloat16) {
    constexpr bool kWide = kEncoding == Encoding::kBfloat16;
    uint16_t* to = static_cast<uint16_t*>(values) + at;
    const auto pair = [](float low, float high) {
      return kWide ? bfloat16_pair(low, high) : float16_pair(low, high);
    };
    if constexpr (kCount == 4) {
      *reinterpret_cast<uint2*>(to) = make_uint2(pair(value.x[0], value.x[1]), pair(value.x[2], value.x[3]));
    } else {
      *to = static_cast<uint16_t>(pair(value.x[0], 0.0F) & 0xffffU);
    }
  } else {
    uint8_t* to = static_cast<uint8_t*>(values) + at;
    const auto pair = [](float low, float high) {
      return kEncoding == Encoding::kFloat8 ? float8_pair(low, high) : int8_pair(low, high);
    };
    if constexpr (kCount == 4) {
      *reinterpret_cast<uint32_t*>(to) = pair(value.x[0], value.x[1]) | pair(value.x[2], value.x[3]) << 16;
    } else {
      *to = static_cast<uint8_t>(pair(value.x[0], 0.0F) & 0xffU);
    }
  }
}

}  // namespace ltrp::cuda
