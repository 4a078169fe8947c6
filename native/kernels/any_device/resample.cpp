#include "kernels/resample.h"

#include <ATen/ATen.h>

namespace ltrp {

void crop_resize_bicubic(const uint8_t* picture, int64_t picture_height, int64_t picture_width,
                         const CropBox& box, int64_t out_height, int64_t out_width, bool flip, uint8_t* out) {
  TORCH_CHECK(box.top >= 0 && box.left >= 0 && box.height > 0 && box.width > 0 &&
                  box.top + box.height <= picture_height && box.left + box.width <= picture_width,
              "the crop box leaves the picture");
  // from_blob needs a mutable pointer; the tensor is only read.
  uint8_t* origin = const_cast<uint8_t*>(picture) + (box.top * picture_width + box.left) * 3;
  const at::Tensor crop =
      at::from_blob(origin, {1, 3, box.height, box.width},
                    {picture_height * picture_width * 3, 1, picture_width * 3, 3}, at::kByte)
          .contiguous(at::MemoryFormat::ChannelsLast);
  at::Tensor resized = at::_upsample_bicubic2d_aa(crop, {out_height, out_width}, /*align_corners=*/false);
  if (flip) resized = resized.flip({3});
  const at::Tensor target = at::from_blob(out, {out_height, out_width, 3}, at::kByte);
  target.copy_(resized[0].permute({1, 2, 0}));
}

}  // namespace ltrp
