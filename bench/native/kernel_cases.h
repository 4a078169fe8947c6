// Micro-benchmarks of our kernels, each beside the plain LibTorch operations that it replaces.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

namespace ltrp::bench {

struct KernelCase {
  std::string name;       // of the function, as in native/kernels
  std::string precision;  // of what it reads or writes
  std::vector<int64_t> shape;
  std::function<std::vector<at::Tensor>()> ours;
  std::function<std::vector<at::Tensor>()> plain;  // the same results by ATen's operators
  // Bytes that must move if every operand is read and every result written once; for `plain`, once by each of
  // its operators.
  double ours_bytes = 0;
  double plain_bytes = 0;
  double flops = 0;
  double tolerance = 0;  // largest |ours - plain| / max |plain| of any result
};

// Operands are made when a case is, in float32 from a fixed seed; one case at a time keeps memory low.
using KernelCaseMaker = KernelCase (*)();
const std::vector<KernelCaseMaker>& kernel_cases();

}  // namespace ltrp::bench
