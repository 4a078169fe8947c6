#include "kernels/cpu/simd_dispatch.h"

#include <atomic>

namespace ltrp {
namespace simd {

namespace plain {
extern const KernelTable table;
}
#ifdef LTRP_SIMD_X86
namespace avx2 {
extern const KernelTable table;
}
namespace avx512 {
extern const KernelTable table;
}
#endif

}  // namespace simd

namespace {

std::atomic<SimdLevel>& current() {
  static std::atomic<SimdLevel> level{available_simd_levels().back()};
  return level;
}

}  // namespace

const std::vector<SimdLevel>& available_simd_levels() {
  static const std::vector<SimdLevel> levels = [] {
    std::vector<SimdLevel> found{SimdLevel::kPlain};
#ifdef LTRP_SIMD_X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) found.push_back(SimdLevel::kAvx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq")) {
      found.push_back(SimdLevel::kAvx512);
    }
#endif
    return found;
  }();
  return levels;
}

SimdLevel simd_level() { return current(); }

void set_simd_level(SimdLevel level) { current() = level; }

std::string_view simd_level_name(SimdLevel level) {
  switch (level) {
    case SimdLevel::kAvx2:
      return "avx2";
    case SimdLevel::kAvx512:
      return "avx512";
    default:
      return "plain";
  }
}

namespace simd {

const KernelTable& kernels() { return kernels_of(simd_level()); }

const KernelTable& kernels_of([[maybe_unused]] SimdLevel level) {
#ifdef LTRP_SIMD_X86
  if (level == SimdLevel::kAvx512) return avx512::table;
  if (level == SimdLevel::kAvx2) return avx2::table;
#endif
  return plain::table;
}

}  // namespace simd
}  // namespace ltrp
