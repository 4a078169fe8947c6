#include "kernel_cases.h"

#include <ATen/ATen.h>

#include <array>

#include "core/random.h"
#include "kernels/difference.h"
#include "kernels/pixels.h"

namespace ltrp::bench {

namespace {

// Predictions of the masked patches.
constexpr int64_t kMasked = shape::kTokens - 1 - shape::kVariants;
const std::vector<int64_t> kPredictions{shape::kVariants, kMasked, shape::kPixels};

double bytes(std::initializer_list<at::Tensor> tensors) {
  double total = 0;
  for (const at::Tensor& tensor : tensors) total += static_cast<double>(tensor.nbytes());
  return total;
}

KernelCase mean_absolute() {
  const at::Tensor a = normal_values(kPredictions, 0), b = a + 0.01 * normal_values(kPredictions, 1);
  KernelCase result;
  result.name = "mean_absolute_difference";
  result.precision = "float32";
  result.shape = a.sizes().vec();
  result.ours = [=] { return std::vector{mean_absolute_difference(a, b)}; };
  result.plain = [=] { return std::vector{(a - b).abs().mean({1, 2})}; };
  result.ours_bytes = bytes({a, b});
  result.plain_bytes = bytes({a, b, a}) + bytes({a, a}) + bytes({a});
  result.flops = 3.0 * static_cast<double>(a.numel());
  result.tolerance = 1e-5;
  return result;
}

KernelCase mean_squared() {
  KernelCase result = mean_absolute();
  const at::Tensor a = normal_values(kPredictions, 0), b = a + 0.01 * normal_values(kPredictions, 1);
  result.name = "mean_squared_difference";
  result.ours = [=] { return std::vector{mean_squared_difference(a, b)}; };
  result.plain = [=] { return std::vector{(a - b).square().mean({1, 2})}; };
  return result;
}

KernelCase normalize() {
  const at::Tensor pixels = (normal_values({8, 224, 224, 3}, 0) * 50 + 128).clamp(0, 255).to(at::kByte);
  static constexpr std::array<double, 3> kMean{0.485, 0.456, 0.406}, kStd{0.229, 0.224, 0.225};
  KernelCase result;
  result.name = "normalize_pixels";
  result.precision = "uint8";
  result.shape = pixels.sizes().vec();
  result.ours = [=] { return std::vector{normalize_pixels(pixels, kMean, kStd)}; };
  result.plain = [=] {
    const at::Tensor mean = at::tensor(at::ArrayRef<double>(kMean), at::kFloat).view({1, 3, 1, 1});
    const at::Tensor std = at::tensor(at::ArrayRef<double>(kStd), at::kFloat).view({1, 3, 1, 1});
    return std::vector{((pixels.permute({0, 3, 1, 2}).to(at::kFloat) / 255 - mean) / std).contiguous()};
  };
  const double values = static_cast<double>(pixels.numel());
  result.ours_bytes = values * 5;
  result.plain_bytes = values * (5 + 3 * 8 + 8);
  result.flops = 3 * values;
  result.tolerance = 1e-6;
  return result;
}

KernelCase patchify() {
  const at::Tensor images = normal_values({8, 3, 224, 224}, 0);
  KernelCase result;
  result.name = "patchify_channels_first";
  result.precision = "float32";
  result.shape = images.sizes().vec();
  result.ours = [=] { return std::vector{patchify_channels_first(images, 16)}; };
  result.plain = [=] {
    return std::vector{
        images.unfold(2, 16, 16).unfold(3, 16, 16).permute({0, 2, 3, 1, 4, 5}).reshape({8, 196, 768})};
  };
  result.ours_bytes = result.plain_bytes = bytes({images, images});
  result.tolerance = 0;
  return result;
}

}  // namespace

at::Tensor normal_values(std::vector<int64_t> shape, uint64_t stream) {
  at::Generator generator = generator_for(7, stream);
  return at::empty(shape, at::kFloat).normal_(0, 1, generator);
}

std::vector<KernelCaseMaker> kernel_cases() {
  std::vector<KernelCaseMaker> all{mean_absolute, mean_squared, normalize, patchify};
  for (const auto& more : {row_kernel_cases(), attention_kernel_cases(), product_kernel_cases()})
    all.insert(all.end(), more.begin(), more.end());
  return all;
}

}  // namespace ltrp::bench
