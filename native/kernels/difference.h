// Reductions over the difference of two reconstructions.
#pragma once

#include <ATen/core/Tensor.h>

namespace ltrp {

// a, b [m, T, C] -> [m]: mean over tokens and values of |a - b|.
at::Tensor mean_absolute_difference(const at::Tensor& a, const at::Tensor& b);

// a, b [m, T, C] -> [m]: mean of (a - b)^2.
at::Tensor mean_squared_difference(const at::Tensor& a, const at::Tensor& b);

// predicted, target [m, 3, H, W] -> [m] structural similarity (Wang et al. 2004): Gaussian window 11,
// sigma 1.5, k1 0.01, k2 0.03, dynamic range the larger of the two images' spans, mean over all
// positions, the images continued by reflection (torchmetrics' way). H, W >= 11.
at::Tensor structural_similarity(const at::Tensor& predicted, const at::Tensor& target);

// predicted, target [m, 3, H, W] -> [m] peak signal-to-noise ratio in dB for a range of 3, which is
// torchmetrics' default and what the authors' metric has.
at::Tensor peak_signal_to_noise(const at::Tensor& predicted, const at::Tensor& target);

}  // namespace ltrp
