// What a matrix product takes its left operand in.
#pragma once

namespace ltrp {

// From exact to coarse; which are fast, or there at all, depends on the device (kernels/linear.h).
enum class Precision { kFloat32, kFloat16, kBfloat16, kFloat8, kInt8 };

inline const char* precision_name(Precision precision) {
  switch (precision) {
    case Precision::kFloat32:
      return "float32";
    case Precision::kFloat16:
      return "float16";
    case Precision::kBfloat16:
      return "bfloat16";
    case Precision::kFloat8:
      return "fp8";
    case Precision::kInt8:
      return "int8";
  }
  return "";
}

}  // namespace ltrp
