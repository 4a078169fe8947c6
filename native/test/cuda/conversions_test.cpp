// float16, bfloat16 and fp8 of the emulation against a definition in float64 (the nearest of all finite
// values of the format, the even code on a tie), at every value of the format, every midpoint between two and
// the float32s beside them, which together determine a monotonic rounding; and against c10's types, which
// LibTorch rounds with.
#include <c10/util/BFloat16.h>
#include <c10/util/Float8_e4m3fn.h>
#include <c10/util/Float8_e5m2.h>
#include <c10/util/Half.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "kernels/cuda/device.h"

namespace ltrp::test {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A format as IEEE 754 defines it by its two widths; e4m3 gives up infinity, and all NaNs but one, for larger
// values.
struct Format {
  std::string name;
  int exponent_bits;
  int fraction_bits;
  bool infinity;

  uint32_t sign_bit() const { return 1u << (exponent_bits + fraction_bits); }
  // The first code that is no finite number: infinity, or e4m3's NaN.
  uint32_t end() const {
    const uint32_t top = ((1u << exponent_bits) - 1) << fraction_bits;
    return infinity ? top : top + (1u << fraction_bits) - 1;
  }
  // Of a code without sign; the one at end() continues the series, as rounding needs it for the threshold of
  // overflow.
  double value(uint32_t code) const {
    const int bias = (1 << (exponent_bits - 1)) - 1;
    const int exponent = static_cast<int>(code >> fraction_bits);
    const double fraction =
        std::ldexp(static_cast<double>(code & ((1u << fraction_bits) - 1)), -fraction_bits);
    return exponent == 0 ? std::ldexp(fraction, 1 - bias) : std::ldexp(1.0 + fraction, exponent - bias);
  }
};

// The values of all codes without sign, ascending, with the one beyond the largest.
std::vector<double> values_of(const Format& format) {
  std::vector<double> values(format.end() + 1);
  for (uint32_t code = 0; code <= format.end(); ++code) values[code] = format.value(code);
  return values;
}

// Nearest code of |x|, the even one on a tie; format.end() for overflow.
uint32_t nearest(const std::vector<double>& values, double x) {
  x = std::fabs(x);
  const auto above = std::lower_bound(values.begin(), values.end(), x);
  if (above == values.end()) return static_cast<uint32_t>(values.size() - 1);
  const auto code = static_cast<uint32_t>(above - values.begin());
  if (code == 0) return 0;
  const double up = *above - x, down = x - values[code - 1];
  if (up != down) return up < down ? code : code - 1;
  return code % 2 == 0 ? code : code - 1;
}

// Calls body(x) with float32s that determine the rounding: values, midpoints, their neighbours, both signs;
// extremes.
template <typename Body>
void for_deciding_floats(const std::vector<double>& values, const Body& body) {
  const auto around = [&](double v) {
    const float x = static_cast<float>(std::min(v, double{std::numeric_limits<float>::max()}));
    for (const float y : {x, std::nextafter(x, 0.0f), std::nextafter(x, kInfinity)}) {
      body(y);
      body(-y);
    }
  };
  for (size_t code = 0; code + 1 < values.size(); ++code) {
    around(values[code]);
    around(0.5 * (values[code] + values[code + 1]));
  }
  around(values.back());
  around(2 * values.back());
  for (const float x : {std::numeric_limits<float>::min(), std::numeric_limits<float>::denorm_min(),
                        std::numeric_limits<float>::max(), kInfinity}) {
    body(x);
    body(-x);
  }
  // All float32s at a distance that is prime.
  for (uint64_t bits = 0; bits < 1ull << 32; bits += 40009)
    body(std::bit_cast<float>(static_cast<uint32_t>(bits)));
}

// `ours` maps float to code; `overflow` is the code without sign of what is too large.
template <typename Ours>
void check_rounding(const Format& format, uint32_t overflow, uint32_t not_a_number, const Ours& ours) {
  CAPTURE(format.name);
  const std::vector<double> values = values_of(format);
  int64_t wrong = 0, checked = 0;
  float example = 0;
  for_deciding_floats(values, [&](float x) {
    uint32_t expected = not_a_number;
    if (!std::isnan(x)) {
      const uint32_t code = nearest(values, x);
      expected = (code == format.end() ? overflow : code) | (std::signbit(x) ? format.sign_bit() : 0u);
    }
    ++checked;
    if (ours(x) != expected) {
      ++wrong;
      example = x;
    }
  });
  CAPTURE(example);
  CHECK(wrong == 0);
  CHECK(checked > 100000);
}

const Format kHalf{"float16", 5, 10, true};
const Format kBfloat16{"bfloat16", 8, 7, true};
const Format kE4m3{"e4m3", 4, 3, false};
const Format kE5m2{"e5m2", 5, 2, true};

uint32_t to_fp8(float x, __nv_saturation_t saturation, __nv_fp8_interpretation_t format) {
  return __nv_cvt_float_to_fp8(x, saturation, format);
}

bool same(float a, float b) {
  return std::bit_cast<uint32_t>(a) == std::bit_cast<uint32_t>(b) || (std::isnan(a) && std::isnan(b));
}

TEST_CASE("rounding to float16, bfloat16 and fp8 against its definition in float64") {
  check_rounding(kHalf, 0x7c00, 0x7fff,
                 [](float x) { return uint32_t{__half_as_ushort(__float2half_rn(x))}; });
  check_rounding(kBfloat16, 0x7f80, 0x7fff,
                 [](float x) { return uint32_t{__bfloat16_as_ushort(__float2bfloat16_rn(x))}; });
  check_rounding(kE4m3, 0x7e, 0x7f, [](float x) { return to_fp8(x, __NV_SATFINITE, __NV_E4M3); });
  check_rounding(kE4m3, 0x7f, 0x7f, [](float x) { return to_fp8(x, __NV_NOSAT, __NV_E4M3); });
  check_rounding(kE5m2, 0x7b, 0x7f, [](float x) { return to_fp8(x, __NV_SATFINITE, __NV_E5M2); });
  check_rounding(kE5m2, 0x7c, 0x7f, [](float x) { return to_fp8(x, __NV_NOSAT, __NV_E5M2); });
}

TEST_CASE("every code of every format back to float32, against the definition and c10") {
  const auto check = [](const Format& format, const auto& ours, const auto& theirs) {
    CAPTURE(format.name);
    int wrong = 0;
    for (uint32_t bits = 0; bits < 2 * format.sign_bit(); ++bits) {
      const uint32_t code = bits & (format.sign_bit() - 1);
      float expected = std::numeric_limits<float>::quiet_NaN();
      if (code < format.end()) expected = static_cast<float>(format.value(code));
      if (code == format.end() && format.infinity) expected = kInfinity;
      if (bits >= format.sign_bit()) expected = -expected;
      wrong += !same(ours(bits), expected) || !same(theirs(bits), expected);
    }
    CHECK(wrong == 0);
  };
  check(
      kHalf, [](uint32_t b) { return __half2float(__ushort_as_half(static_cast<uint16_t>(b))); },
      [](uint32_t b) { return float(c10::Half(static_cast<uint16_t>(b), c10::Half::from_bits())); });
  check(
      kBfloat16, [](uint32_t b) { return __bfloat162float(__ushort_as_bfloat16(static_cast<uint16_t>(b))); },
      [](uint32_t b) { return float(c10::BFloat16(static_cast<uint16_t>(b), c10::BFloat16::from_bits())); });
  const auto fp8 = [](__nv_fp8_interpretation_t format) {
    return [format](uint32_t b) {
      return __half2float(__nv_cvt_fp8_to_halfraw(static_cast<uint8_t>(b), format));
    };
  };
  check(kE4m3, fp8(__NV_E4M3), [](uint32_t b) {
    return float(c10::Float8_e4m3fn(static_cast<uint8_t>(b), c10::Float8_e4m3fn::from_bits()));
  });
  check(kE5m2, fp8(__NV_E5M2), [](uint32_t b) {
    return float(c10::Float8_e5m2(static_cast<uint8_t>(b), c10::Float8_e5m2::from_bits()));
  });
}

TEST_CASE("rounding agrees with LibTorch's types") {
  int64_t wrong = 0;
  // c10 keeps other NaNs; what its e4m3 does beyond 464, where rounding leaves the format, changed between
  // releases.
  const auto compare = [&](float x) {
    if (std::isnan(x)) return;
    wrong += __half_as_ushort(__float2half_rn(x)) != c10::Half(x).x;
    wrong += __bfloat16_as_ushort(__float2bfloat16_rn(x)) != c10::BFloat16(x).x;
    wrong += to_fp8(x, __NV_NOSAT, __NV_E5M2) != c10::Float8_e5m2(x).x;
    if (std::fabs(x) <= 464.0f) wrong += to_fp8(x, __NV_NOSAT, __NV_E4M3) != c10::Float8_e4m3fn(x).x;
  };
  for (const Format& format : {kHalf, kBfloat16, kE4m3, kE5m2})
    for_deciding_floats(values_of(format), compare);
  CHECK(wrong == 0);
}

TEST_CASE("packed conversions are those of their parts, the first in the low half") {
  const float2 v = make_float2(1.2345678f, -3.3333333e5f);
  const __nv_bfloat162 b = __float22bfloat162_rn(v);
  CHECK(__bfloat16_as_ushort(b.x) == __bfloat16_as_ushort(__float2bfloat16_rn(v.x)));
  CHECK(__low2float(b) == float(__float2bfloat16_rn(v.x)));
  CHECK(__high2float(b) == __bfloat1622float2(b).y);
  CHECK((std::bit_cast<uint32_t>(b) >> 16) == uint32_t{__bfloat16_as_ushort(__float2bfloat16_rn(v.y))});
  const __half2 h = __floats2half2_rn(v.x, v.y);
  CHECK(__half22float2(h).x == __half2float(__float2half(v.x)));
  CHECK(__high2float(h) == -kInfinity);
  const unsigned fp8 = __nv_cvt_float2_to_fp8x2(v, __NV_SATFINITE, __NV_E4M3);
  CHECK(fp8 == 0xfe3au);
  CHECK(__half22float2(__half2(__nv_cvt_fp8x2_to_halfraw2(0xfe3a, __NV_E4M3))).y == -448.0f);
  CHECK(float(__nv_fp8_e4m3(1.2345678f)) == 1.25f);
}

TEST_CASE("conversions to integers saturate, round to even, and take NaN as zero") {
  CHECK(__float2int_rn(2.5f) == 2);
  CHECK(__float2int_rn(-3.5f) == -4);
  CHECK(__float2int_rz(-3.9f) == -3);
  CHECK(__float2int_rn(3e9f) == 2147483647);
  CHECK(__float2int_rn(-kInfinity) == -2147483647 - 1);
  CHECK(__float2int_rn(std::numeric_limits<float>::quiet_NaN()) == 0);
  CHECK(__float2uint_rn(-1.0f) == 0u);
  CHECK(__float2uint_rn(5e9f) == 4294967295u);
  CHECK(__dp4a(0x7f80ff01, 0x02020202, 10) == 10 + 2 * (127 - 128 - 1 + 1));
}

}  // namespace
}  // namespace ltrp::test
