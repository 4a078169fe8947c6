#include "test/emulation/conversions.h"

namespace ltrp::emulation {
namespace {

// |value| (finite, as bits) to the nearest multiple of the target's spacing there, as the target's bits
// without sign: `fraction` bits below an exponent of bias `bias`. The result may exceed the largest finite
// code; exponents of the target follow on from it without a gap, so the caller sees by how much.
uint32_t round_magnitude(uint32_t magnitude, int fraction, int bias) {
  const int exponent = static_cast<int>(magnitude >> 23) - 127;
  const int lowest = 1 - bias;  // exponent of the smallest normal number, and of the subnormals
  if (magnitude < 0x00800000u)
    return 0;  // subnormal float32: under half of the smallest subnormal of any target
  uint32_t significand = (magnitude & 0x007fffffu) | 0x00800000u;
  int drop = 23 - fraction;
  uint32_t base = 0;
  if (exponent >= lowest) {
    base = static_cast<uint32_t>(exponent + bias - 1) << fraction;  // the implicit one adds the last step
  } else {
    drop += lowest - exponent;
    if (drop > 24) return 0;  // below half of the smallest subnormal
  }
  const uint32_t half = 1u << (drop - 1);
  const uint32_t rest = significand & ((half << 1) - 1);
  uint32_t code = significand >> drop;
  if (rest > half || (rest == half && (code & 1u))) ++code;
  return base + code;
}

// Bits without sign, of a finite or infinite code of a format with infinities.
float magnitude_to_float(uint32_t code, int fraction, int bias) {
  const uint32_t exponent = code >> fraction;
  const uint32_t mantissa = code & ((1u << fraction) - 1);
  // The product is exact: a power of two in the range of float32's normal numbers.
  const float unit = std::bit_cast<float>(
      static_cast<uint32_t>(127 + (exponent ? static_cast<int>(exponent) : 1) - bias - fraction) << 23);
  return static_cast<float>(exponent ? mantissa | (1u << fraction) : mantissa) * unit;
}

constexpr uint32_t kInfinity = 0x7f800000u;

}  // namespace

uint16_t round_to_half(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t sign = bits >> 31 << 15;
  if (magnitude > kInfinity) return 0x7fff;
  const uint32_t code = magnitude == kInfinity ? 0x7c00u : round_magnitude(magnitude, 10, 15);
  return static_cast<uint16_t>(sign | (code > 0x7c00u ? 0x7c00u : code));
}

uint16_t round_to_bfloat16(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > kInfinity) return 0x7fff;
  // The upper half of a float32: a carry out of the fraction steps the exponent, up to infinity.
  return static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

float half_to_float(uint16_t bits) {
  const uint32_t magnitude = bits & 0x7fffu;
  if (magnitude > 0x7c00u) return std::bit_cast<float>(0x7fffffffu);
  const uint32_t result =
      magnitude == 0x7c00u ? kInfinity : std::bit_cast<uint32_t>(magnitude_to_float(magnitude, 10, 15));
  return std::bit_cast<float>(result | static_cast<uint32_t>(bits >> 15) << 31);
}

uint8_t round_to_fp8(float value, bool e5m2, bool saturate) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const uint32_t sign = bits >> 31 << 7;
  // e4m3 has no infinity: 0x7e is 448, 0x7f NaN. e5m2 is laid out as float16: 0x7b is 57344, 0x7c infinity.
  const uint32_t largest = e5m2 ? 0x7bu : 0x7eu;
  if (magnitude > kInfinity) return 0x7f;
  const uint32_t code =
      magnitude == kInfinity ? largest + 1 : round_magnitude(magnitude, e5m2 ? 2 : 3, e5m2 ? 15 : 7);
  return static_cast<uint8_t>(sign | (code <= largest ? code : saturate ? largest : largest + 1));
}

float fp8_to_float(uint8_t bits, bool e5m2) {
  const uint32_t magnitude = bits & 0x7fu;
  if (e5m2 ? magnitude > 0x7cu : magnitude == 0x7fu) return std::bit_cast<float>(0x7fffffffu);
  const uint32_t result =
      e5m2 && magnitude == 0x7cu
          ? kInfinity
          : std::bit_cast<uint32_t>(magnitude_to_float(magnitude, e5m2 ? 2 : 3, e5m2 ? 15 : 7));
  return std::bit_cast<float>(result | static_cast<uint32_t>(bits >> 7) << 31);
}

}  // namespace ltrp::emulation
