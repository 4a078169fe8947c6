#include "kernels/pixels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <array>

#include "kernels/cpu/operators.h"

namespace ltrp {

at::Tensor cpu::normalize_pixels(const at::Tensor& bytes, at::ArrayRef<double> mean,
                                 at::ArrayRef<double> std) {
  const at::Tensor source = bytes.contiguous();
  const int64_t images = source.size(0), height = source.size(1), width = source.size(2);
  at::Tensor result = at::empty({images, 3, height, width}, at::kFloat);
  // One multiply-add a value; a table of 256 entries a channel makes it a look-up with the division done
  // once.
  std::array<std::array<float, 256>, 3> table;
  for (size_t c = 0; c < 3; ++c) {
    for (size_t v = 0; v < 256; ++v) {
      table[c][v] = static_cast<float>((static_cast<float>(v) / 255.0F - static_cast<float>(mean[c])) /
                                       static_cast<float>(std[c]));
    }
  }
  const uint8_t* in = source.const_data_ptr<uint8_t>();
  float* out = result.mutable_data_ptr<float>();
  const int64_t plane = height * width;
  at::parallel_for(0, images * height, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const int64_t image = row / height, y = row % height;
      const uint8_t* pixel = in + row * width * 3;
      float* red = out + image * 3 * plane + y * width;
      for (int64_t x = 0; x < width; ++x, pixel += 3) {
        red[x] = table[0][pixel[0]];
        red[x + plane] = table[1][pixel[1]];
        red[x + 2 * plane] = table[2][pixel[2]];
      }
    }
  });
  return result;
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
