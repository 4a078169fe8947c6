// Memory that a thread keeps from one call to the next, so that the system need not find pages for each.
#pragma once

#include <cstdint>

namespace ltrp::cpu {

// At least that many floats of the calling thread's, 64-byte aligned, not initialised; good until it asks
// again.
float* scratch(int64_t floats);

}  // namespace ltrp::cpu
