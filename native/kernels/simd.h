// Which instructions the kernels of the CPU use: those of a level, never those that a library would.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ltrp {

// Weakest first. kAvxVnni is AVX2 with int8 products (most laptops), kAvx512Vnni and kAvx512Bf16 are AVX-512
// with int8, and with int8 and bfloat16 products; kAmx has tiles for both.
enum class SimdLevel { kPlain, kAvx2, kAvxVnni, kAvx512, kAvx512Vnni, kAvx512Bf16, kAmx };

// What this processor can run and its operating system allows, weakest first; kPlain is always there. The
// environment variable LTRP_CPU_LEVEL, a level's name, leaves out all that are stronger. Throws
// std::invalid_argument if it is no level's name.
const std::vector<SimdLevel>& available_simd_levels();
// The strongest that the processor and its operating system have, whatever LTRP_CPU_LEVEL says.
SimdLevel processor_simd_level();
// The level in use: the strongest available one unless set_simd_level() chose another. Tests and benchmarks
// choose; nothing may be computing meanwhile.
SimdLevel simd_level();
void set_simd_level(SimdLevel level);
// "plain", "avx2", "avx-vnni", "avx512", "avx512-vnni", "avx512-bf16", "amx"
std::string_view simd_level_name(SimdLevel level);

// Whether int8 and bfloat16 count as fast where the level has no instructions for them, so that models
// compute in them all the same: with the same sums, by several instructions, much slower than float32. For
// tests; off unless the environment variable LTRP_EMULATE_PRECISIONS is set to 1. Nothing may be computing
// when it changes.
bool precisions_are_emulated();
void emulate_precisions(bool emulate);

}  // namespace ltrp
