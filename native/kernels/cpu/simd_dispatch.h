// The vector kernels of the level in use.
#pragma once

#include "kernels/cpu/simd/table.h"

namespace ltrp::simd {

const KernelTable& kernels();

}  // namespace ltrp::simd
