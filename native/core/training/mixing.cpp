#include "core/training/mixing.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/random.h"
#include "core/training/layer_decay.h"

namespace ltrp {
namespace {

double uniform(at::Generator& generator) {
  return at::empty({}, at::kDouble).uniform_(0, 1, generator).item<double>();
}

double beta(double alpha, at::Generator& generator) {
  const at::Tensor two = at::_standard_gamma(at::full({2}, alpha, at::kDouble), generator);
  const double sum = two.sum().item<double>();
  return sum > 0 ? two[0].item<double>() / sum : 0.5;
}

// Every picture's partner.
at::Tensor partners(const at::Tensor& x, int64_t group) {
  return x.view({x.size(0) / group, group, -1}).flip(1).view_as(x);
}

}  // namespace

std::optional<Mix> draw_mix(double mixup, double cutmix, int64_t height, int64_t width, uint64_t seed,
                            uint64_t step) {
  if (mixup <= 0 && cutmix <= 0) return std::nullopt;
  at::Generator generator = generator_for(seed, step);
  const double coin = uniform(generator);
  const bool cuts = cutmix > 0 && (mixup <= 0 || coin < 0.5);
  Mix mix;
  mix.share = beta(cuts ? cutmix : mixup, generator);
  if (!cuts) return mix;
  const double side = std::sqrt(1 - mix.share);
  const auto range = [&](int64_t size) {
    const auto length = static_cast<int64_t>(static_cast<double>(size) * side);
    const auto centre =
        std::min(size - 1, static_cast<int64_t>(uniform(generator) * static_cast<double>(size)));
    return std::pair{std::max<int64_t>(0, centre - length / 2), std::min(size, centre + (length + 1) / 2)};
  };
  const auto [top, bottom] = range(height);
  const auto [left, right] = range(width);
  mix.box = std::array<int64_t, 4>{top, bottom, left, right};
  mix.share = 1 - static_cast<double>((bottom - top) * (right - left)) / static_cast<double>(height * width);
  return mix;
}

at::Tensor mixed_images(const at::Tensor& images, const Mix& mix, int64_t group) {
  const at::Tensor other = partners(images, group);
  if (!mix.box) return images * mix.share + other * (1 - mix.share);
  const auto [top, bottom, left, right] = *mix.box;
  at::Tensor result = images.clone();
  result.slice(2, top, bottom).slice(3, left, right).copy_(other.slice(2, top, bottom).slice(3, left, right));
  return result;
}

at::Tensor mixed_targets(const at::Tensor& targets, const Mix& mix, int64_t group) {
  return targets * mix.share + partners(targets, group) * (1 - mix.share);
}

at::Tensor smoothed_targets(const at::Tensor& labels, int64_t classes, double smoothing) {
  const double everywhere = smoothing / static_cast<double>(classes);
  return at::full({labels.size(0), classes}, everywhere, labels.options().dtype(at::kFloat))
      .scatter_(1, labels.unsqueeze(1), 1 - smoothing + everywhere);
}

at::Tensor soft_cross_entropy(const at::Tensor& logits, const at::Tensor& targets) {
  return -(targets * logits.log_softmax(-1)).sum(-1).mean();
}

void erase_boxes(const at::Tensor& images, double share, uint64_t seed, uint64_t first) {
  constexpr int kTries = 10;
  constexpr double kLeastArea = 0.02, kMostArea = 1.0 / 3, kAspect = 0.3;
  const int64_t height = images.size(2), width = images.size(3);
  for (int64_t i = 0; i < images.size(0); ++i) {
    // All at once, so that a rejected box does not shift what comes after.
    at::Generator generator = generator_for(seed, first + static_cast<uint64_t>(i));
    const at::Tensor draws = at::empty({1 + 4 * kTries}, at::kDouble).uniform_(0, 1, generator);
    const auto* u = draws.const_data_ptr<double>();
    if (*u++ >= share) continue;
    for (int attempt = 0; attempt < kTries; ++attempt, u += 4) {
      const double area =
          static_cast<double>(height * width) * (kLeastArea + u[0] * (kMostArea - kLeastArea));
      const double aspect = std::exp(std::log(kAspect) * (1 - 2 * u[1]));
      const auto rows = static_cast<int64_t>(std::llround(std::sqrt(area * aspect)));
      const auto columns = static_cast<int64_t>(std::llround(std::sqrt(area / aspect)));
      if (rows >= height || columns >= width) continue;
      const auto top = static_cast<int64_t>(u[2] * static_cast<double>(height - rows + 1));
      const auto left = static_cast<int64_t>(u[3] * static_cast<double>(width - columns + 1));
      images[i].narrow(1, top, rows).narrow(2, left, columns).zero_();
      break;
    }
  }
}

at::Tensor drop_path_scales(double rate, int64_t depth, int64_t images, uint64_t seed, uint64_t first) {
  if (rate <= 0) return {};
  std::vector<at::Tensor> draws;
  for (int64_t i = 0; i < images; ++i) {
    at::Generator generator = generator_for(seed, first + static_cast<uint64_t>(i));
    draws.push_back(at::empty({depth, 2}, at::kFloat).uniform_(0, 1, generator));
  }
  const at::Tensor drawn = at::stack(draws, 2);
  std::vector<at::Tensor> scales;
  for (int64_t block = 0; block < depth; ++block) {
    const double dropped = drop_path_rate(rate, block, depth);
    scales.push_back(drawn[block].ge(dropped).to(at::kFloat) / (1 - dropped));
  }
  return at::stack(scales);
}

MlDecoderDropout decoder_dropout(double rate, int64_t queries, int64_t dim, int64_t tokens, int64_t images,
                                 uint64_t seed, uint64_t first) {
  const int64_t heads = MlDecoder::kHeads, hidden = MlDecoder::kHidden;
  const at::Tensor drawn = at::empty({images, queries, 3 * dim + heads * tokens + hidden}, at::kFloat);
  for (int64_t i = 0; i < images; ++i)
    drawn[i].uniform_(0, 1, generator_for(seed, first + static_cast<uint64_t>(i)));
  const std::vector<at::Tensor> parts = at::split_with_sizes(drawn.ge(rate).to(at::kFloat) / (1 - rate),
                                                             {dim, heads * tokens, dim, hidden, dim}, -1);
  return {parts[0], parts[1].unflatten(-1, {heads, tokens}).transpose(1, 2), parts[2], parts[3], parts[4]};
}

at::Tensor label_targets(const std::vector<std::vector<int64_t>>& labels, int64_t classes) {
  at::Tensor targets = at::zeros({static_cast<int64_t>(labels.size()), classes}, at::kFloat);
  float* row = targets.mutable_data_ptr<float>();
  for (const auto& of_picture : labels) {
    for (const int64_t id : of_picture) row[id] = 1;
    row += classes;
  }
  return targets;
}

}  // namespace ltrp
