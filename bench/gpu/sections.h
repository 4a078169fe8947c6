// The sections of the GPU benchmark, each JSON for the report.
#pragma once

#include <nlohmann/json.hpp>

namespace ltrp::bench::gpu {

using Json = nlohmann::ordered_json;

struct Settings {
  // For one measurement. Each section makes at most a few dozen.
  double seconds = 0.3;
  // Sizes for compute-sanitizer, which is hundreds of times slower: what comes out is no measurement.
  bool small = false;
};

// The GPU, its driver, LibTorch.
Json describe_machine();

// {precision, shape, ms, tflops} of LibTorch's matrix products, each precision that the GPU has.
Json measure_products(const Settings&);

// {ms, gbps}: device to device, 1 GiB read and written.
Json measure_copy(const Settings&);

// {name, precision, shape, ms, bytes, flops, gbps, tflops, copyShare} of our kernels; copyShare against
// `copy_gbps`.
Json measure_kernels(const Settings&, double copy_gbps);

// [{teacher, patches, visible, contenders: [{contender, precision, images, ms, imagesPerSecond, error,
// kendallTau}]}]: the engine at ViT-B/L/H and the authors' loop, which comes first, on the same GPU. `failed`
// in place of figures: why there are none.
Json measure_engine(const Settings&);

}  // namespace ltrp::bench::gpu
