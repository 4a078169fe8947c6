// See args::DensityPeaks.
#pragma once

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/stream.h"

namespace ltrp::cuda {

constexpr int64_t kMostPatches = 4096;  // of an image: their scores are sorted in shared memory

// Writes everything but `x` and `noise`, which it reads. std::invalid_argument for images of no or more than
// kMostPatches patches, for patches without values and for a number of clusters outside [1, patches].
void launch_density_peaks(const args::DensityPeaks& arguments, int64_t images, Stream stream);

}  // namespace ltrp::cuda
