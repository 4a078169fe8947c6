// The device that this thread computes on, as LibTorch has set it.
#pragma once

#include <cstdint>

#include "kernels/cuda/stream.h"

namespace ltrp::cuda {

// The stream that LibTorch's own operators use at this moment.
Stream current_stream();

// Of the current device, as 10 * major + minor.
int compute_capability();

// Bytes that can be allocated on the current device: what is free, and what LibTorch keeps for reuse.
int64_t free_memory();

}  // namespace ltrp::cuda
