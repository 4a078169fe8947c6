// See args::ListwiseLoss.
#pragma once

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/stream.h"

namespace ltrp::cuda {

constexpr int64_t kMostItems = 4096;  // of a list: it is sorted in shared memory

// The loss of `lists` lists and, where `gradient` is given, its gradient. std::invalid_argument for lists of
// no or more than kMostItems items, for no lists, and for a focus outside [1, items].
void launch_listwise_loss(const args::ListwiseLoss& arguments, int64_t lists, Stream stream);

}  // namespace ltrp::cuda
