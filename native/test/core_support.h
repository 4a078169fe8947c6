// Small models and pictures for the tests of models, engine and training.
#pragma once

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <vector>

#include "core/model/mae.h"
#include "core/model/ranker.h"
#include "core/random.h"
#include "core/training/trainer.h"

namespace ltrp::test {

// Code runs some 30 times as long under sanitizers, which look for other faults than the last digit.
#if defined(__SANITIZE_ADDRESS__)
constexpr bool kSanitized = true;
#else
constexpr bool kSanitized = false;
#endif

// 3 x 4 patches of 8 pixels; every dimension differs from every other, so that a mixed-up axis shows.
inline MaeConfig small_mae_config() {
  MaeConfig config;
  config.image_height = 24;
  config.image_width = 32;
  config.patch_size = 8;
  config.encoder = {24, 2, 3, 40};
  config.decoder = TransformerConfig{16, 3, 2, 28};
  return config;
}

inline RankerConfig small_ranker_config(RankerHead head) {
  RankerConfig config;
  config.image_height = 24;
  config.image_width = 32;
  config.patch_size = 8;
  config.encoder = {20, 2, 2, 36};
  config.head = head;
  return config;
}

// Initial weights with random biases and norms added, so that no term is trivially zero or one.
inline TensorMap perturbed(const TensorMap& tensors, uint64_t seed) {
  TensorMap result;
  at::Generator generator = generator_for(seed, 99);
  for (const auto& [name, tensor] : tensors) {
    result[name] = name.ends_with("pos_embed")
                       ? tensor.clone()
                       : tensor + at::empty(tensor.sizes(), at::kFloat).normal_(0, 0.05, generator);
  }
  return result;
}

inline MaskedAutoencoder small_mae(at::ScalarType dtype = at::kDouble, uint64_t seed = 1) {
  const MaeConfig config = small_mae_config();
  return MaskedAutoencoder(
      {config, perturbed(MaskedAutoencoder::initialized(config, seed).tensors(), seed), "ltrp"}, dtype);
}

inline PatchRanker small_ranker(RankerHead head, at::ScalarType dtype = at::kDouble, uint64_t seed = 2) {
  const RankerConfig config = small_ranker_config(head);
  return PatchRanker({config, perturbed(PatchRanker::initialized(config, seed).tensors(), seed), "ltrp"},
                     dtype);
}

inline at::Tensor random_tensor(at::IntArrayRef shape, uint64_t seed, at::ScalarType dtype = at::kDouble) {
  return at::empty(shape, dtype).normal_(0, 1, generator_for(seed, 7));
}

// Pictures with structure: a gradient, a bright rectangle at a random place, a little noise.
class Pictures {
 public:
  Pictures(int64_t count, int64_t height, int64_t width, uint64_t seed) {
    for (int64_t i = 0; i < count; ++i) {
      at::Tensor picture = at::empty({height, width, 3}, at::kFloat)
                               .uniform_(0, 20, generator_for(seed, static_cast<uint64_t>(i)));
      picture += at::linspace(20, 160, width, at::kFloat).view({1, width, 1});
      const at::Tensor at_ =
          at::empty({2}, at::kFloat).uniform_(0, 1, generator_for(seed + 1, static_cast<uint64_t>(i)));
      const auto top = static_cast<int64_t>(at_[0].item<float>() * static_cast<float>(height / 2));
      const auto left = static_cast<int64_t>(at_[1].item<float>() * static_cast<float>(width / 2));
      picture.slice(0, top, top + height / 2).slice(1, left, left + width / 2) +=
          at::tensor({70.0F, 10.0F, 40.0F});
      bytes_.push_back(picture.clamp(0, 255).to(at::kByte).contiguous());
      views_.push_back({bytes_.back().const_data_ptr<uint8_t>(), height, width});
    }
  }
  const std::vector<Picture>& views() const { return views_; }

 private:
  std::vector<at::Tensor> bytes_;
  std::vector<Picture> views_;
};

// LibTorch's number of threads while it exists.
class ThreadCount {
 public:
  explicit ThreadCount(int threads) : before_(at::get_num_threads()) { at::set_num_threads(threads); }
  ~ThreadCount() { at::set_num_threads(before_); }
  ThreadCount(const ThreadCount&) = delete;
  ThreadCount& operator=(const ThreadCount&) = delete;

 private:
  int before_;
};

inline double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a - b).abs().max().item<double>();
}

// Central differences of `function` in each of the chosen elements of `at_point` against its autograd
// gradient.
template <typename Function>
double worst_gradient_error(at::Tensor at_point, Function function, int64_t stride) {
  at_point.requires_grad_(true);
  at_point.mutable_grad().reset();
  function().backward();
  const at::Tensor gradient = at_point.grad().clone();
  at_point.requires_grad_(false);
  constexpr double kStep = 1e-6;
  double worst = 0;
  const at::Tensor flat = at_point.view({-1});
  for (int64_t i = 0; i < flat.numel(); i += stride) {
    const double value = flat[i].item<double>();
    flat[i] = value + kStep;
    const double above = function().template item<double>();
    flat[i] = value - kStep;
    const double below = function().template item<double>();
    flat[i] = value;
    const double numeric = (above - below) / (2 * kStep);
    const double analytic = gradient.view({-1})[i].item<double>();
    worst = std::max(worst, std::abs(numeric - analytic) / std::max(1.0, std::abs(numeric)));
  }
  return worst;
}

}  // namespace ltrp::test
