// For the tests of the CUDA kernels: room for rows in every encoding, what rounding may do to a value, how
// plain LibTorch rounds, and products as the kernels read them.
#pragma once

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include "kernels/arguments.h"
#include "kernels/cuda/launchers.h"
#include "test/delta_support.h"

namespace ltrp::test {

using args::Encoding;

inline const std::vector<Encoding>& all_encodings() {
  static const std::vector<Encoding> encodings{Encoding::kFloat32, Encoding::kBfloat16, Encoding::kFloat16,
                                               Encoding::kFloat8, Encoding::kInt8};
  return encodings;
}

inline bool has_scale(Encoding encoding) {
  return encoding != Encoding::kFloat32 && encoding != Encoding::kBfloat16;
}

inline at::ScalarType type_of(Encoding encoding) {
  switch (encoding) {
    case Encoding::kBfloat16:
      return at::kBFloat16;
    case Encoding::kFloat16:
      return at::kHalf;
    case Encoding::kFloat8:
      return at::kFloat8_e4m3fn;
    case Encoding::kInt8:
      return at::kChar;
    case Encoding::kInt32:
      return at::kInt;
    default:
      return at::kFloat;
  }
}

// A tensor that shows what was not written: NaN, or -128, which no kernel stores.
inline at::Tensor unwritten(at::IntArrayRef shape, at::ScalarType type) {
  at::Tensor result = at::empty(shape, type);
  if (type == at::kFloat8_e4m3fn) {
    result.view(at::kByte).fill_(0x7f);
  } else if (type == at::kChar || type == at::kInt) {
    result.fill_(-128);
  } else {
    result.fill_(std::nan(""));
  }
  return result;
}

// Rows that a kernel rounds to `encoding`.
struct Rows {
  Encoding encoding = Encoding::kFloat32;
  at::Tensor values, scale;

  Rows(int64_t rows, int64_t width, Encoding encoding_)
      : encoding(encoding_), values(unwritten({rows, width}, type_of(encoding))) {
    if (has_scale(encoding)) scale = unwritten({rows}, at::kFloat);
  }
  args::Rounded out() {
    return {encoding, values.mutable_data_ptr(), scale.defined() ? scale.mutable_data_ptr<float>() : nullptr};
  }
  at::Tensor value() const {
    const at::Tensor x = doubles(values);
    return scale.defined() ? x * doubles(scale).unsqueeze(1) : x;
  }
};

// Below this a row with a scale may come out as zeros.
constexpr double kTiny = 1.1e-35;

// By how much a value may differ from `exact` [R, W] after rounding: half a step. Steps of the encodings with
// a scale are relative to the row's largest magnitude.
inline at::Tensor rounding_of(const at::Tensor& exact, Encoding encoding) {
  const at::Tensor size = exact.abs(), most = size.amax(1, /*keepdim=*/true);
  const double slack = 1.0001;
  at::Tensor allowed;
  switch (encoding) {
    case Encoding::kFloat32:
      return (size * kUlp).clamp_min(1.4e-45);
    case Encoding::kBfloat16:
      return (size / 256).clamp_min(4.6e-41);
    case Encoding::kFloat16:
      return at::maximum(size / 2048 * slack, most * std::ldexp(slack, -25)).clamp_min(1e-45);
    case Encoding::kFloat8:
      allowed = at::maximum(size / 16 * slack, (most * (std::ldexp(slack, -10) / 448)).expand_as(size));
      break;
    default:
      allowed = (most * (0.5 * slack / 127)).expand_as(size);
  }
  return at::where(most > kTiny, allowed, size * slack);
}

// Plain LibTorch: float32 [R, W] rounded to the encoding by its own conversions, in float64.
inline at::Tensor rounded_by_libtorch(const at::Tensor& x, Encoding encoding) {
  const at::Tensor most = x.abs().amax(1, /*keepdim=*/true).clamp_min(1e-30);
  switch (encoding) {
    case Encoding::kBfloat16:
      return doubles(x.to(at::kBFloat16));
    case Encoding::kFloat16:
      return doubles((x / most).to(at::kHalf)) * doubles(most);
    case Encoding::kFloat8:
      return doubles((x * (448 / most)).clamp(-448, 448).to(at::kFloat8_e4m3fn)) * doubles(most / 448);
    case Encoding::kInt8:
      return doubles((x * (127 / most)).round()) * doubles(most / 127);
    default:
      return doubles(x);
  }
}

inline double root_mean_square(const at::Tensor& error) {
  return error.square().mean().sqrt().item<double>();
}

// The kernel's error against float64 is at most twice that of plain LibTorch in the same encoding.
inline void check_twice_libtorch(const at::Tensor& got, const at::Tensor& libtorch, const at::Tensor& exact) {
  const at::Tensor ours = (got - exact).abs(), theirs = (libtorch - exact).abs();
  CHECK(root_mean_square(ours) <= 2 * root_mean_square(theirs));
  CHECK(ours.max().item<double>() <= 2 * theirs.max().item<double>());
}

// Every value was written, and is within its rounding and `tolerance` [R, 1] or [R, W] of `exact`.
inline void check_rounded(const Rows& got, const at::Tensor& exact, const at::Tensor& tolerance) {
  REQUIRE(got.values.sizes() == exact.sizes());
  // A power of two between the encodings' steps: what moves a value may move it across a step's middle.
  const at::Tensor allowed = rounding_of(exact, got.encoding) + tolerance * 1.2;
  const at::Tensor error = (got.value() - exact).abs();
  const double excess = (error / allowed.clamp_min(1e-300)).nan_to_num(1e300, 1e300).max().item<double>();
  CHECK(excess <= 1);
}

// A product as a kernel reads it, and what it stands for.
struct ProductOf {
  Encoding encoding = Encoding::kFloat32;
  at::Tensor values, scale, column_scale;

  args::Product argument() const {
    return {values.const_data_ptr(), encoding, scale.defined() ? scale.const_data_ptr<float>() : nullptr,
            column_scale.defined() ? column_scale.const_data_ptr<float>() : nullptr};
  }
  at::Tensor value() const {
    at::Tensor x = doubles(values);
    if (scale.defined()) x = x * doubles(scale).unsqueeze(1);
    if (column_scale.defined()) x = x * doubles(column_scale);
    return x;
  }
};

// What kinds of products there are: encodings with and without scales.
struct ProductShape {
  Encoding encoding;
  bool scaled, column_scaled;
};
inline const std::vector<ProductShape>& all_products() {
  static const std::vector<ProductShape> shapes{{Encoding::kFloat32, false, false},
                                                {Encoding::kFloat32, true, true},
                                                {Encoding::kBfloat16, false, false},
                                                {Encoding::kBfloat16, true, false},
                                                {Encoding::kInt32, true, true}};
  return shapes;
}

// A product that stands for about x [R, W].
inline ProductOf product_of_kind(const at::Tensor& x, const ProductShape& shape, uint64_t seed) {
  ProductOf result;
  result.encoding = shape.encoding;
  at::Tensor stored = x;
  if (shape.scaled) {
    result.scale = at::empty({x.size(0)}, at::kFloat).uniform_(0.5, 2, generator_for(seed, 31));
    if (shape.encoding == Encoding::kInt32) result.scale.mul_(1e-3 * x.abs().max().item<double>());
    stored = stored / result.scale.unsqueeze(1).clamp_min(1e-38);
  }
  if (shape.column_scaled) {
    result.column_scale = at::empty({x.size(1)}, at::kFloat).uniform_(0.1, 2, generator_for(seed, 32));
    stored = stored / result.column_scale;
  }
  result.values =
      (shape.encoding == Encoding::kInt32 ? stored.round().to(at::kInt) : stored.to(type_of(shape.encoding)))
          .contiguous();
  return result;
}

inline args::Variants argument_of(const VariantSet& set) {
  return {set.variants, set.tokens, set.slots(), set.image.const_data_ptr<int32_t>(),
          set.queries.defined() ? set.queries.const_data_ptr<int32_t>() : nullptr};
}

inline args::PackedRows argument_of(const RowRange& range) {
  if (!range.ids.defined()) return {nullptr, range.begin};
  return {range.ids.const_data_ptr<int32_t>() + range.begin, 0};
}

inline const float* floats_of(const at::Tensor& x) { return x.const_data_ptr<float>(); }
inline float* floats_in(at::Tensor& x) { return x.mutable_data_ptr<float>(); }

// A copy of x whose first value lies four bytes beyond a 16-byte boundary.
inline at::Tensor misaligned(const at::Tensor& x) {
  const at::Tensor flat = at::empty({x.numel() + 1}, x.options()).slice(0, 1);
  return flat.copy_(x.reshape({-1})).view(x.sizes());
}

// Widths of rows at and beside every way in which the kernels share them among threads: scalars, one warp,
// four, eight, and rows that no registers hold.
inline const std::vector<int64_t>& row_widths() {
  static const std::vector<int64_t> widths{1,   2,   3,    4,    7,    16,   33,   100,  180, 512,
                                           516, 768, 1024, 1028, 2052, 3072, 4100, 8200, 1025};
  return widths;
}

}  // namespace ltrp::test
