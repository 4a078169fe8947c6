// The vector kernels of the level in use.
#pragma once

#include "kernels/cpu/simd/table.h"
#include "kernels/simd.h"

namespace ltrp::simd {

const KernelTable& kernels();
// Of a level that is available.
const KernelTable& kernels_of(SimdLevel level);
// Whose panels are as wide as that.
const KernelTable& kernels_with_panels_of(int64_t outputs);

// For tests: that table serves as kAvx512, which becomes available, on a processor without it. The level in
// use stays what it is.
void stand_in_for_avx512(const KernelTable& table);

// Whether the level in use has instructions for int8 and for bfloat16 products.
bool has_int8_products();
bool has_bfloat16_products();
// Whether it has tiles for both.
bool has_tiles();

}  // namespace ltrp::simd
