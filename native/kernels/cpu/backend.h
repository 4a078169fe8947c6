// The CPU's kernels (kernels/cpu/simd, at the level in use, on all of LibTorch's threads) and
// products.
#pragma once

#include "kernels/backend.h"

namespace ltrp {

const Backend& cpu_backend();

}  // namespace ltrp
