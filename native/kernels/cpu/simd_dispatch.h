// The vector kernels of the level in use.
#pragma once

#include "kernels/cpu/simd/table.h"
#include "kernels/simd.h"

namespace ltrp::simd {

const KernelTable& kernels();
// Of a level that is available.
const KernelTable& kernels_of(SimdLevel level);

}  // namespace ltrp::simd
