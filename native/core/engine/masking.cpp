#include "core/engine/masking.h"

#include <ATen/ATen.h>

#include <string>

#include "core/error.h"
#include "core/random.h"
#include "kernels/variants.h"

namespace ltrp {

int64_t visible_count(int64_t patches, double mask_ratio) {
  // Written so that NaN is refused too.
  if (!(mask_ratio > 0.0 && mask_ratio < 1.0)) {
    throw Error(codes::kInvalidArgument,
                "maskRatio must lie between 0 and 1, both excluded; got " + std::to_string(mask_ratio) + ".");
  }
  const auto visible = static_cast<int64_t>(static_cast<double>(patches) * (1.0 - mask_ratio));
  if (visible < 1 || visible >= patches) {
    throw Error(codes::kInvalidArgument,
                "A mask ratio of " + std::to_string(mask_ratio) + " leaves " + std::to_string(visible) +
                    " of " + std::to_string(patches) +
                    " patches visible; at least one must be visible and one masked.");
  }
  return visible;
}

at::Tensor masking_noise(int64_t images, int64_t patches, uint64_t seed, int64_t first_image) {
  at::Tensor noise = at::empty({images, patches}, at::kFloat);
  for (int64_t i = 0; i < images; ++i) {
    noise[i].uniform_(0, 1, generator_for(seed, static_cast<uint64_t>(first_image + i)));
  }
  return noise;
}

at::Tensor visible_from_noise(const at::Tensor& noise, int64_t visible) {
  const at::Tensor order = noise.argsort(/*stable=*/true, /*dim=*/1, /*descending=*/false);
  return std::get<0>(order.slice(1, 0, visible).sort(1));
}

at::Tensor masked_from_visible(const at::Tensor& visible, int64_t patches) {
  return masked_tokens(visible, patches).to(at::kLong) - 1;
}

void check_visible(const at::Tensor& visible, int64_t images, int64_t patches) {
  if (visible.dim() != 2 || visible.size(0) != images || visible.scalar_type() != at::kLong) {
    throw Error(codes::kInvalidArgument, "visible must hold the same number of patch ids for each of the " +
                                             std::to_string(images) + " images.");
  }
  if (visible.size(1) < 1 || visible.size(1) >= patches) {
    throw Error(codes::kInvalidArgument, "visible must name between 1 and " + std::to_string(patches - 1) +
                                             " patches an image; got " + std::to_string(visible.size(1)) +
                                             ".");
  }
  const bool in_range = visible.min().item<int64_t>() >= 0 && visible.max().item<int64_t>() < patches;
  if (!in_range || !visible.diff(1, 1).gt(0).all().item<bool>()) {
    throw Error(codes::kInvalidArgument,
                "visible must hold distinct patch ids in ascending order, each from 0 to " +
                    std::to_string(patches - 1) + ".");
  }
}

}  // namespace ltrp
