// Reductions over the difference of two reconstructions. On a CPU a variant's value depends on its own pixels
// alone, to the last bit: neither on the other variants nor on the number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include "kernels/linear.h"

namespace ltrp {

// a, b [m, T, C] -> [m]: mean over tokens and values of |a - b|.
at::Tensor mean_absolute_difference(const at::Tensor& a, const at::Tensor& b);

// a, b [m, T, C] -> [m]: mean of (a - b)^2.
at::Tensor mean_squared_difference(const at::Tensor& a, const at::Tensor& b);

// a, b [m, T, C] -> [m]: exp(mean over tokens of log(d + 1e-3)) - 1e-3, where d is the mean over a token's
// values of |a - b|; not below 0.
at::Tensor geometric_mean_difference(const at::Tensor& a, const at::Tensor& b);

// Whose patches images consist of: in raster order, values ordered (row, column, channel).
struct PatchGrid {
  int64_t rows = 0;
  int64_t columns = 0;
};

// Structural similarity (Wang et al. 2004) of m images and the anchors that they come from, [m] in the
// anchors' type: Gaussian window 11, sigma 1.5, k1 0.01, k2 0.03, dynamic range the larger of the two images'
// spans, mean over all positions, the images continued by reflection (torchmetrics' way). Images are at least
// 11 pixels high and wide. Of two images of one value each, 2 p t / (p^2 + t^2), or 1 where the two are
// equal.
//
// anchors [g, L, C] for the grid's L patches, image [m] int32: which is whose. changed [m * T, C]: the
// images' patches, the last L of each T rows; with `difference` what is to be added to the anchor's.
at::Tensor structural_similarity(const at::Tensor& anchors, const at::Tensor& image,
                                 const ProductRows& changed, bool difference, PatchGrid grid);

// Mean square errors -> peak signal-to-noise ratio in dB for a range of 3, which is torchmetrics' default and
// what the authors' metric has. No error has 389 dB, that of the smallest normal float32.
at::Tensor peak_signal_to_noise(const at::Tensor& squared_error);

// Row sums of variants, one variant's after another, float64 -> [variants].
at::Tensor sums_of_variants(const at::Tensor& sums, int64_t variants);

// The tokens' d of variants, one variant's after another -> [variants] float64, as
// geometric_mean_difference().
at::Tensor geometric_mean_of_variants(const at::Tensor& means, int64_t variants);

}  // namespace ltrp
