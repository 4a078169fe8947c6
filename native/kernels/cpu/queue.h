// A CPU's queue: every step is done when it returns, nothing is copied.
#pragma once

#include "kernels/queue.h"

namespace ltrp::cpu {

std::unique_ptr<Queue> open_queue(c10::Device device);

}  // namespace ltrp::cpu
