// Which instruction set the vector kernels use.
#pragma once

#include <string_view>
#include <vector>

namespace ltrp {

enum class SimdLevel { kPlain, kAvx2, kAvx512 };

// What this processor can run, weakest first; kPlain is always there.
const std::vector<SimdLevel>& available_simd_levels();
// The level in use: the strongest available one unless set_simd_level() chose another. Tests and benchmarks
// choose; nothing may be computing meanwhile.
SimdLevel simd_level();
void set_simd_level(SimdLevel level);
std::string_view simd_level_name(SimdLevel level);  // "plain", "avx2", "avx512"

}  // namespace ltrp
