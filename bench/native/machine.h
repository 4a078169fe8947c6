// What LibTorch knows about the CPU.
#pragma once

#include <string>
#include <vector>

namespace ltrp::bench {

// Instruction sets that decide about the speed of matrix products, by LibTorch's names ("avx512_bf16"), those
// that this CPU has.
std::vector<std::string> features();
bool has_feature(const std::string& name);

}  // namespace ltrp::bench
