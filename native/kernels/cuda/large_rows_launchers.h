// See args::LargeRows.
#pragma once

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/stream.h"

namespace ltrp::cuda {

constexpr int64_t kMostSlots = 4096;  // of a variant: they are sorted in shared memory

// Writes everything but `squares` and `tolerance`, which it reads. std::invalid_argument for more than
// kMostSlots slots and for more rows than int32 counts.
void launch_large_rows(const args::LargeRows& arguments, int64_t variants, Stream stream);

}  // namespace ltrp::cuda
