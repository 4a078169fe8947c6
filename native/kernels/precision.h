// What a matrix product takes its left operand in.
#pragma once

#include <cstdint>

namespace ltrp {

// From exact to coarse; which are fast, or there at all, depends on the device (kernels/linear.h).
enum class Precision { kFloat32, kFloat16, kBfloat16, kFloat8, kInt8 };

struct PrecisionTraits {
  Precision value;
  const char* name;
  int64_t bytes;   // of a packed weight
  Precision next;  // what serves instead where there are no instructions for it
};
inline constexpr PrecisionTraits kPrecisions[] = {
    {Precision::kFloat32, "float32", 4, Precision::kFloat32},
    {Precision::kFloat16, "float16", 2, Precision::kBfloat16},
    {Precision::kBfloat16, "bfloat16", 2, Precision::kFloat32},
    {Precision::kFloat8, "fp8", 1, Precision::kInt8},
    {Precision::kInt8, "int8", 1, Precision::kBfloat16},
};

constexpr const PrecisionTraits& traits_of(Precision precision) {
  return kPrecisions[static_cast<int>(precision)];
}
inline const char* precision_name(Precision precision) { return traits_of(precision).name; }
// Whether rows and weights have a scale each.
constexpr bool eight_bits(Precision precision) { return traits_of(precision).bytes == 1; }

}  // namespace ltrp
