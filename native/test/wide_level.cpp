// On processors without AVX-512 its kernels' source is tested all the same: compiled for pairs of 256-bit
// vectors.
#include <algorithm>

#include "kernels/cpu/simd_dispatch.h"

#ifdef LTRP_SIMD_WIDE
namespace ltrp::simd {

namespace wide {
extern const KernelTable table;
}

namespace {

[[maybe_unused]] const bool stands_in = [] {
  const auto has = [](SimdLevel level) {
    const auto& levels = available_simd_levels();
    return std::find(levels.begin(), levels.end(), level) != levels.end();
  };
  if (!has(SimdLevel::kAvx2) || has(SimdLevel::kAvx512)) return false;
  stand_in_for_avx512(wide::table);
  return true;
}();

}  // namespace
}  // namespace ltrp::simd
#endif
