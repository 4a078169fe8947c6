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

// Operands are made when a case is, from a fixed seed; one case at a time keeps memory low.
using KernelCaseMaker = std::function<KernelCase()>;

// All of them: of whole tensors (kernel_cases.cpp), of rows, attention and products (the files so named).
std::vector<KernelCaseMaker> kernel_cases();
std::vector<KernelCaseMaker> row_kernel_cases();
std::vector<KernelCaseMaker> attention_kernel_cases();
std::vector<KernelCaseMaker> product_kernel_cases();

// The shape that all cases share: the published decoder (16 heads of 32, MLP 2048) on one image with 19 of
// 196 patches visible, every variant of it at once.
namespace shape {
inline constexpr int64_t kVariants = 19, kTokens = 197, kRows = kVariants * kTokens;
inline constexpr int64_t kWidth = 512, kHeads = 16, kHeadDim = 32, kHidden = 2048, kPixels = 768;
}  // namespace shape

// Standard normal float32 values, different for every `stream`.
at::Tensor normal_values(std::vector<int64_t> shape, uint64_t stream);

}  // namespace ltrp::bench
