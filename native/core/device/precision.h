// Which precision a device computes in.
#pragma once

#include <c10/core/Device.h>

#include "core/names.h"
#include "kernels/precision.h"

namespace ltrp {

template <>
struct Names<Precision> {
  static constexpr auto& all = kPrecisions;
};

// What is fastest on the device for who asks for `wanted`: what is coarser than float32 needs instructions
// made for it; without them the next more exact precision that has its own is taken.
Precision effective_precision(Precision wanted, c10::Device device = c10::kCPU);

}  // namespace ltrp
