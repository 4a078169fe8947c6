// What fine-tuning does to pictures and their targets (docs/method.md, 8). All draws depend on the seed, the
// step and the picture's number among all ever trained on, so that they are the same however a batch is
// split.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/model/ml_decoder.h"

namespace ltrp {

// Pictures are mixed in groups of so many that follow each other: number i of a group with number
// kMixedTogether - 1 - i. A micro-batch has whole groups.
inline constexpr int64_t kMixedTogether = 2;

// Of one step: mixup (Zhang et al. 2018), or cutmix (Yun et al. 2019) where there is a box.
struct Mix {
  double share = 1;                           // of a picture itself; the rest is its partner's
  std::optional<std::array<int64_t, 4>> box;  // rows [0, 1), columns [2, 3) come from the partner
};

// mixup's and cutmix' share is drawn from Beta(alpha, alpha), 0: that one is off; with both on each step has
// one of them. Nothing with both off.
std::optional<Mix> draw_mix(double mixup, double cutmix, int64_t height, int64_t width, uint64_t seed,
                            uint64_t step);

// images [n, 3, H, W] and targets [n, C], mixed within groups of `group`, of which n is a multiple.
at::Tensor mixed_images(const at::Tensor& images, const Mix& mix, int64_t group);
at::Tensor mixed_targets(const at::Tensor& targets, const Mix& mix, int64_t group);

// labels [n] int64 -> [n, classes] float32: (1 - smoothing) at the label, and smoothing / classes everywhere.
at::Tensor smoothed_targets(const at::Tensor& labels, int64_t classes, double smoothing);

// -sum targets log softmax(logits), mean over pictures: logits and targets [n, C].
at::Tensor soft_cross_entropy(const at::Tensor& logits, const at::Tensor& targets);

// Random erasing (Zhong et al. 2020) with the mean, which is 0 in normalised images [n, 3, H, W], in place: a
// box of 2 to 33% of the area and of aspect 0.3 to 3.3 in that share of the pictures. With noise, which is
// usual, every selector of pixels would keep the box.
void erase_boxes(const at::Tensor& images, double share, uint64_t seed, uint64_t first);

// Drop path (Huang et al. 2016), see Transformer: [depth, 2, images]; undefined at rate 0.
at::Tensor drop_path_scales(double rate, int64_t depth, int64_t images, uint64_t seed, uint64_t first);

// What ML-Decoder drops of `images` pictures of so many tokens; queries and their width as in its weights.
MlDecoderDropout decoder_dropout(double rate, int64_t queries, int64_t dim, int64_t tokens, int64_t images,
                                 uint64_t seed, uint64_t first);

// labels[i] are the categories of picture i -> [n, classes] float32 of 0 and 1.
at::Tensor label_targets(const std::vector<std::vector<int64_t>>& labels, int64_t classes);

}  // namespace ltrp
