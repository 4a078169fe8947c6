#include "core/random.h"

#include <ATen/CPUGeneratorImpl.h>

namespace ltrp {

uint64_t mix_seed(uint64_t seed, uint64_t stream) {
  const auto finalise = [](uint64_t x) {
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
  };
  return finalise(finalise(seed + 0x9E3779B97F4A7C15ULL) + stream * 0xD1B54A32D192ED03ULL +
                  0x632BE59BD9B4E019ULL);
}

at::Generator generator_for(uint64_t seed, uint64_t stream) {
  return at::detail::createCPUGenerator(mix_seed(seed, stream));
}

}  // namespace ltrp
