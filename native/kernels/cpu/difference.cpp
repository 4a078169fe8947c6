#include "kernels/difference.h"

#include <ATen/ATen.h>

#include <cmath>

namespace ltrp {

at::Tensor mean_absolute_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs_().mean({1, 2});
}

at::Tensor mean_squared_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).square_().mean({1, 2});
}

at::Tensor structural_similarity(const at::Tensor& predicted, const at::Tensor& target) {
  constexpr int64_t kWindow = 11;
  constexpr double kSigma = 1.5;
  constexpr int64_t kMargin = kWindow / 2;
  TORCH_CHECK(predicted.size(2) >= kWindow && predicted.size(3) >= kWindow,
              "SSIM needs images of at least 11 x 11 pixels");
  const int64_t m = predicted.size(0);
  const auto span = [m](const at::Tensor& x) {
    const at::Tensor flat = x.reshape({m, -1});
    return flat.amax(1) - flat.amin(1);
  };
  const at::Tensor range = at::maximum(span(predicted), span(target)).view({m, 1, 1, 1});
  const at::Tensor c1 = (0.01 * range).square(), c2 = (0.03 * range).square();

  const at::Tensor offset = at::arange(kWindow, predicted.options()) - (kWindow - 1) / 2;
  at::Tensor window = (-(offset / kSigma).square() / 2).exp();
  window = window / window.sum();
  // The window is separable: two one-dimensional depthwise convolutions.
  const at::Tensor vertical = window.view({1, 1, kWindow, 1}).expand({3, 1, kWindow, 1}).contiguous();
  const at::Tensor horizontal = window.view({1, 1, 1, kWindow}).expand({3, 1, 1, kWindow}).contiguous();
  const auto blur = [&](const at::Tensor& x) {
    const auto depthwise = [](const at::Tensor& input, const at::Tensor& weight) {
      return at::conv2d(input, weight, /*bias=*/{}, /*stride=*/{1, 1}, at::IntArrayRef{0, 0},
                        /*dilation=*/{1, 1}, /*groups=*/3);
    };
    return depthwise(depthwise(at::reflection_pad2d(x, {kMargin, kMargin, kMargin, kMargin}), vertical),
                     horizontal);
  };

  const at::Tensor mean_p = blur(predicted), mean_t = blur(target);
  const at::Tensor variance_p = (blur(predicted * predicted) - mean_p * mean_p).clamp_min(0);
  const at::Tensor variance_t = (blur(target * target) - mean_t * mean_t).clamp_min(0);
  const at::Tensor covariance = blur(predicted * target) - mean_p * mean_t;
  const at::Tensor similarity = (2 * mean_p * mean_t + c1) * (2 * covariance + c2) /
                                ((mean_p * mean_p + mean_t * mean_t + c1) * (variance_p + variance_t + c2));
  return similarity.mean({1, 2, 3});
}

at::Tensor peak_signal_to_noise(const at::Tensor& predicted, const at::Tensor& target) {
  constexpr double kRange = 3;
  const at::Tensor error = (predicted - target).square().mean({1, 2, 3});
  return (2 * std::log(kRange) - error.log()) * (10 / std::log(10.0));
}

}  // namespace ltrp
