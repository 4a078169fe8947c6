#include "kernels/pixels.h"

#include <ATen/ATen.h>

#include "kernels/backend.h"

namespace ltrp {

at::Tensor normalize_pixels(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std) {
  TORCH_CHECK(bytes.dim() == 4 && bytes.size(3) == 3 && bytes.scalar_type() == at::kByte,
              "bytes must be [n, H, W, 3] uint8");
  TORCH_CHECK(mean.size() == 3 && std.size() == 3, "mean and std need three values each");
  return backend_of(bytes).normalize_pixels(bytes, mean, std);
}

RoundedRows byte_patch_rows(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std,
                            int64_t patch_size, const at::Tensor& ids, Precision precision) {
  return backend_of(bytes).byte_patch_rows(bytes, mean, std, patch_size, ids, precision);
}

at::Tensor patchify_channels_first(const at::Tensor& images, int64_t patch_size) {
  const int64_t n = images.size(0), rows = images.size(2) / patch_size, columns = images.size(3) / patch_size;
  return images.reshape({n, 3, rows, patch_size, columns, patch_size})
      .permute({0, 2, 4, 1, 3, 5})
      .reshape({n, rows * columns, 3 * patch_size * patch_size});
}

at::Tensor patchify_channels_last(const at::Tensor& images, int64_t patch_size) {
  const int64_t n = images.size(0), rows = images.size(2) / patch_size, columns = images.size(3) / patch_size;
  return images.reshape({n, 3, rows, patch_size, columns, patch_size})
      .permute({0, 2, 4, 3, 5, 1})
      .reshape({n, rows * columns, patch_size * patch_size * 3});
}

at::Tensor unpatchify_channels_last(const at::Tensor& patches, int64_t rows, int64_t columns,
                                    int64_t patch_size) {
  const int64_t n = patches.size(0);
  return patches.reshape({n, rows, columns, patch_size, patch_size, 3})
      .permute({0, 5, 1, 3, 2, 4})
      .reshape({n, 3, rows * patch_size, columns * patch_size});
}

}  // namespace ltrp
