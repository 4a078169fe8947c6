// Seeds that depend on what is drawn, not on the order in which it is drawn.
#pragma once

#include <ATen/core/Generator.h>

#include <cstdint>

namespace ltrp {

// A well-mixed function of both (SplitMix64's finaliser, Steele et al. 2014).
uint64_t mix_seed(uint64_t seed, uint64_t stream);

// A fresh CPU generator for (seed, stream).
at::Generator generator_for(uint64_t seed, uint64_t stream);

}  // namespace ltrp
