#include "core/engine/masking.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "core/check.h"
#include "core/model/decoder_input.h"
#include "core/random.h"

namespace ltrp {

int64_t visible_count(int64_t patches, double mask_ratio) {
  check_in(open(0, 1), "maskRatio", mask_ratio);
  const auto visible = static_cast<int64_t>(static_cast<double>(patches) * (1.0 - mask_ratio));
  if (visible < 1 || visible >= patches) {
    invalid("maskRatio must leave at least one visible and one masked patch; got " + text_of(mask_ratio) +
            ", which leaves " + std::to_string(visible) + " of " + std::to_string(patches) + " visible.");
  }
  return visible;
}

int64_t kept_patches(int64_t patches, double keep_ratio) {
  check_in({0, 1, /*low_open=*/true}, "keepRatio", keep_ratio);
  return std::max<int64_t>(1, std::llround(static_cast<double>(patches) * keep_ratio));
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

void check_visible(const at::Tensor& visible, int64_t images, int64_t patches, bool all_allowed) {
  const int64_t most = all_allowed ? patches : patches - 1;
  if (visible.dim() != 2 || visible.size(0) != images || visible.scalar_type() != at::kLong ||
      visible.size(1) < 1 || visible.size(1) > most) {
    invalid("visible must hold the same number of patch ids for each of " + std::to_string(images) +
            " images, from 1 to " + std::to_string(most) + " of them; got " +
            std::to_string(visible.numel()) + " ids.");
  }
  const at::Tensor ids = visible.to(at::kCPU).contiguous();
  const int64_t *id = ids.const_data_ptr<int64_t>(), count = ids.size(1);
  int64_t bad = 0;
  while (bad < ids.numel() && id[bad] >= 0 && id[bad] < patches &&
         (bad % count == 0 || id[bad] > id[bad - 1])) {
    ++bad;
  }
  if (bad == ids.numel()) return;
  invalid("visible must hold distinct patch ids from 0 to " + std::to_string(patches - 1) +
          ", ascending for each image; got " + std::to_string(id[bad]) +
          (bad % count == 0 ? "" : " after " + std::to_string(id[bad - 1])) + " for image " +
          std::to_string(bad / count) + ".");
}

void sort_keep(const at::Tensor& keep, int64_t images, int64_t patches) {
  if (keep.dim() != 2 || keep.size(0) != images || keep.size(1) < 1) {
    invalid("keep must hold the same number of patch ids, at least 1, for each of " + std::to_string(images) +
            " images; got " + std::to_string(keep.numel()) + " ids.");
  }
  const int64_t count = keep.size(1);
  int64_t* ids = keep.mutable_data_ptr<int64_t>();
  for (int64_t image = 0; image < images; ++image, ids += count) {
    std::sort(ids, ids + count);
    const auto refuse = [&](const std::string& what) {
      invalid("keep must hold distinct patch ids from 0 to " + std::to_string(patches - 1) +
              " for each image; got " + what + " for image " + std::to_string(image) + ".");
    };
    if (ids[0] < 0) refuse(std::to_string(ids[0]));
    if (ids[count - 1] >= patches) refuse(std::to_string(ids[count - 1]));
    const int64_t* twice = std::adjacent_find(ids, ids + count);
    if (twice != ids + count) refuse(std::to_string(*twice) + " twice");
  }
}

}  // namespace ltrp
