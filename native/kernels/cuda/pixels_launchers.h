// From bytes to network input: see the arguments' own comments.
#pragma once

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/stream.h"

namespace ltrp::cuda {

// std::invalid_argument for images without pixels.
void launch_normalize_pixels(const args::NormalizePixels& arguments, Stream stream);

// `rows`: patches. Outputs as in launchers.h. std::invalid_argument for images that are no whole patches.
void launch_pixel_patches(const args::PixelPatches& arguments, int64_t rows, Stream stream);

}  // namespace ltrp::cuda
