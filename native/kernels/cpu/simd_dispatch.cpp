#include "kernels/cpu/simd_dispatch.h"

#include <c10/util/Exception.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <stdexcept>

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

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

constexpr std::array kLevels{SimdLevel::kPlain,  SimdLevel::kAvx2,       SimdLevel::kAvxVnni,
                             SimdLevel::kAvx512, SimdLevel::kAvx512Vnni, SimdLevel::kAvx512Bf16,
                             SimdLevel::kAmx};

// Linux saves a thread's tiles only if the process has asked for them, and may refuse: in a sandbox, or
// because a thread's stack for signals has no room for them. Once granted, that holds for all threads.
[[maybe_unused]] bool tiles_are_granted() {
#if defined(LTRP_AMX) && defined(__linux__)
  static const bool granted = [] {
    constexpr long kRequestPermission = 0x1023, kTiles = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
    return syscall(SYS_arch_prctl, kRequestPermission, kTiles) == 0;
  }();
  return granted;
#else
  return false;
#endif
}

bool processor_has([[maybe_unused]] SimdLevel level) {
  if (level == SimdLevel::kPlain) return true;
#ifdef LTRP_SIMD_X86
  // Each includes the operating system's part: that it saves the registers.
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  switch (level) {
    case SimdLevel::kAvx2:
      return avx2;
    case SimdLevel::kAvxVnni:
#ifdef LTRP_AVX_VNNI
      return avx2 && __builtin_cpu_supports("avxvnni");
#else
      return false;
#endif
    case SimdLevel::kAvx512:
      return avx512;
    case SimdLevel::kAvx512Vnni:
      return vnni;
    case SimdLevel::kAvx512Bf16:
      return vnni && __builtin_cpu_supports("avx512bf16");
    case SimdLevel::kAmx:
#ifdef LTRP_AMX
      return vnni && __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("amx-tile") &&
             __builtin_cpu_supports("amx-int8") && __builtin_cpu_supports("amx-bf16") && tiles_are_granted();
#else
      return false;
#endif
    default:
      return false;
  }
#else
  return false;
#endif
}

SimdLevel strongest_allowed() {
  const char* asked = std::getenv("LTRP_CPU_LEVEL");
  if (asked == nullptr || *asked == 0) return kLevels.back();
  std::string names;
  for (const SimdLevel level : kLevels) {
    if (simd_level_name(level) == asked) return level;
    if (!names.empty()) names += ", ";
    names += simd_level_name(level);
  }
  throw std::invalid_argument("LTRP_CPU_LEVEL must be one of " + names + "; got " +
                              std::string(asked).substr(0, 200));
}

std::vector<SimdLevel>& available() {
  static std::vector<SimdLevel> levels = [] {
    const SimdLevel strongest = strongest_allowed();
    std::vector<SimdLevel> found;
    for (const SimdLevel level : kLevels) {
      if (level <= strongest && processor_has(level)) found.push_back(level);
    }
    return found;
  }();
  return levels;
}

std::atomic<SimdLevel>& current() {
  static std::atomic<SimdLevel> level{available().back()};
  return level;
}

std::atomic<bool>& emulating() {
  static std::atomic<bool> value{[] {
    const char* asked = std::getenv("LTRP_EMULATE_PRECISIONS");
    return asked != nullptr && std::string_view(asked) == "1";
  }()};
  return value;
}

}  // namespace

const std::vector<SimdLevel>& available_simd_levels() { return available(); }

SimdLevel processor_simd_level() { return *std::find_if(kLevels.rbegin(), kLevels.rend(), processor_has); }

SimdLevel simd_level() { return current(); }

void set_simd_level(SimdLevel level) { current() = level; }

std::string_view simd_level_name(SimdLevel level) {
  switch (level) {
    case SimdLevel::kAvx2:
      return "avx2";
    case SimdLevel::kAvxVnni:
      return "avx-vnni";
    case SimdLevel::kAvx512:
      return "avx512";
    case SimdLevel::kAvx512Vnni:
      return "avx512-vnni";
    case SimdLevel::kAvx512Bf16:
      return "avx512-bf16";
    case SimdLevel::kAmx:
      return "amx";
    default:
      return "plain";
  }
}

bool precisions_are_emulated() { return emulating(); }

void emulate_precisions(bool emulate) { emulating() = emulate; }

namespace simd {

#ifdef LTRP_SIMD_X86
namespace {
const KernelTable* wide = &avx512::table;
}

void stand_in_for_avx512(const KernelTable& table) {
  current();
  wide = &table;
  available().push_back(SimdLevel::kAvx512);
}
#endif

const KernelTable& kernels() { return kernels_of(simd_level()); }

const KernelTable& kernels_of([[maybe_unused]] SimdLevel level) {
#ifdef LTRP_SIMD_X86
  if (level >= SimdLevel::kAvx512) return *wide;
  if (level >= SimdLevel::kAvx2) return avx2::table;
#endif
  return plain::table;
}

const KernelTable& kernels_with_panels_of(int64_t outputs) {
  for (const SimdLevel level : {SimdLevel::kAvx512, SimdLevel::kAvx2, SimdLevel::kPlain}) {
    const KernelTable& table = kernels_of(level);
    if (table.panel_outputs == outputs) return table;
  }
  TORCH_CHECK(false, "no kernel has panels of ", outputs, " outputs");
}

bool has_int8_products() {
  const SimdLevel level = simd_level();
  return level == SimdLevel::kAvxVnni || level >= SimdLevel::kAvx512Vnni;
}

bool has_bfloat16_products() { return simd_level() >= SimdLevel::kAvx512Bf16; }

bool has_tiles() { return simd_level() >= SimdLevel::kAmx; }

}  // namespace simd

const TrainingKernels& training_kernels() { return *simd::kernels().training; }

}  // namespace ltrp
