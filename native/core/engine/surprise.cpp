#include "core/engine/surprise.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>

#include <limits>

#include "kernels/pixels.h"

namespace ltrp {

namespace {

// Patches [..., p * p * 3] -> [...]: mean absolute difference of neighbours' values, both ways together.
at::Tensor mean_edges(const at::Tensor& patches, int64_t size) {
  const at::Tensor pixels = patches.unflatten(-1, {size, size, 3});
  const auto differences = [&](int64_t dimension) {
    return (pixels.slice(dimension, 1) - pixels.slice(dimension, 0, size - 1)).abs().flatten(-3).sum(-1);
  };
  return (differences(-3) + differences(-2)) / static_cast<double>(2 * size * (size - 1) * 3);
}

}  // namespace

at::Tensor edge_surprise(const MaskedAutoencoder& model, const at::Tensor& images, const at::Tensor& visible,
                         const RunContext& context) {
  const c10::DeviceGuard on_device(model.device());
  const MaeConfig& config = model.config();
  const at::Tensor surprise =
      at::empty({images.size(0), model.grid_of(images).patches()}, at::TensorOptions().dtype(at::kDouble));
  for (int64_t i = 0; i < images.size(0); ++i) {
    context.check();
    const at::Tensor image = images.narrow(0, i, 1).to(model.device()),
                     seen = visible.narrow(0, i, 1).to(model.device());
    const at::Tensor predicted = model.reconstruct(image, seen);
    const at::Tensor pixels =
        image.scalar_type() == at::kByte ? normalize_pixels(image, config.mean, config.std) : image;
    const at::Tensor error = mean_edges(
        (predicted - target_patches(pixels, config.patch_size, config.normalized_target)).to(at::kDouble),
        config.patch_size);
    surprise[i].copy_(error[0].index_fill(0, seen[0], std::numeric_limits<double>::quiet_NaN()));
  }
  return surprise;
}

}  // namespace ltrp
