// CUDA's kernels (*.cu) and products (cuBLASLt through LibTorch), on the current stream.
#pragma once

#include "kernels/backend.h"

namespace ltrp {

const Backend& cuda_backend();

}  // namespace ltrp
