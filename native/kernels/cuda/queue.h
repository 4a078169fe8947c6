// See kernels/queue.h: a stream for each thread, another for copies, CUDA graphs.
#pragma once

#include "kernels/queue.h"

namespace ltrp::cuda {

std::unique_ptr<Queue> open_queue(c10::Device device);

}  // namespace ltrp::cuda
