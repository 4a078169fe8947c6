#include "core/training/optimizer.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <map>
#include <numbers>
#include <utility>

#include "core/error.h"

namespace ltrp {

double part_of_decay(const TrainingOptions& options, int64_t done) {
  const int64_t falling = done - (options.steps - options.decay_steps);
  if (falling <= 0) return 0;
  return std::min(1.0, static_cast<double>(falling) / static_cast<double>(options.decay_steps));
}

double scheduled_learning_rate(const TrainingOptions& options, int64_t done) {
  if (done < options.warmup_steps) {
    return options.learning_rate * static_cast<double>(done + 1) / static_cast<double>(options.warmup_steps);
  }
  if (options.schedule == Schedule::kWsd) {
    return options.learning_rate * (1 - std::sqrt(part_of_decay(options, done)));
  }
  const auto length = static_cast<double>(std::max<int64_t>(1, options.steps - options.warmup_steps));
  const double share = std::min(1.0, static_cast<double>(done - options.warmup_steps) / length);
  return options.learning_rate * 0.5 * (1 + std::cos(std::numbers::pi * share));
}

TensorRule plain_rule(const std::string& name, const at::Tensor& tensor) {
  return {name != "pos_embed" && name != "decoder_pos_embed", tensor.dim() > 1 && !name.ends_with("_token")};
}

AdamW::AdamW(const TensorMap& tensors, const TrainingOptions& options, const TensorRules& rules)
    : beta1_(options.beta1), beta2_(options.beta2) {
  std::map<std::pair<double, bool>, Group> groups;  // by scale and whether they have no decay
  for (const auto& [name, tensor] : tensors) {
    const TensorRule rule = rules(name, tensor);
    if (!rule.trained) continue;
    Group& group = groups[{rule.scale, !rule.decayed}];
    group.weight_decay = rule.decayed ? options.weight_decay : 0;
    group.scale = rule.scale;
    group.names.push_back(name);
    group.weights.push_back(tensor);
    group.weights.back().requires_grad_(true);
    group.first_moments.push_back(at::zeros_like(tensor).requires_grad_(false));
    group.second_moments.push_back(at::zeros_like(tensor).requires_grad_(false));
    group.steps.push_back(at::zeros({}, tensor.options().dtype(at::kFloat).requires_grad(false)));
  }
  for (auto& entry : groups) groups_.push_back(std::move(entry.second));
}

void AdamW::zero_gradients() {
  for (Group& group : groups_) {
    for (at::Tensor& weight : group.weights) {
      at::Tensor& gradient = weight.mutable_grad();
      // On a CPU the same memory serves the whole run.
      if (gradient.defined() && gradient.is_cpu()) {
        gradient.zero_();
      } else {
        gradient.reset();
      }
    }
  }
}

std::vector<at::Tensor> AdamW::trained() const {
  std::vector<at::Tensor> weights;
  for (const Group& group : groups_)
    weights.insert(weights.end(), group.weights.begin(), group.weights.end());
  return weights;
}

double AdamW::gradient_norm() const {
  // All norms are taken before the first is read: on a device that work is queued on, each reading waits.
  std::vector<at::Tensor> norms;
  for (const Group& group : groups_) {
    for (const at::Tensor& weight : group.weights) {
      if (weight.grad().defined()) norms.push_back(weight.grad().norm());
    }
  }
  double squares = 0;
  if (!norms.empty()) {
    const at::Tensor read = at::stack(norms).to(at::kCPU);
    for (int64_t i = 0; i < read.size(0); ++i) squares += std::pow(read[i].item<double>(), 2);
  }
  return std::sqrt(squares);
}

void AdamW::clip(double norm, const std::optional<double>& limit) {
  shrink_ = limit && norm > *limit ? norm / *limit : 1;
}

void AdamW::update(double learning_rate) {
  constexpr double kEps = 1e-8;
  const c10::NoGradGuard no_grad;
  for (Group& group : groups_) {
    std::vector<at::Tensor> gradients;
    for (size_t i = 0; i < group.weights.size(); ++i) {
      const at::Tensor& gradient = group.weights[i].grad();
      // A weight without a gradient took no part in this loss (a mask token when all is visible); it stays.
      gradients.push_back(gradient.defined() ? gradient.contiguous() : at::zeros_like(group.weights[i]));
      group.steps[i].add_(1);
    }
    std::optional<at::Tensor> divisor;
    if (shrink_ != 1) divisor = at::full({}, shrink_, group.steps[0].options());
    at::_fused_adamw_(group.weights, gradients, group.first_moments, group.second_moments,
                      /*max_exp_avg_sqs=*/{}, group.steps, learning_rate * group.scale, beta1_, beta2_,
                      group.weight_decay, kEps, /*amsgrad=*/false, /*maximize=*/false, divisor);
    // LibTorch does not: who holds the weights in another layout has to see that they changed.
    for (const at::Tensor& weight : group.weights) weight.unsafeGetTensorImpl()->bump_version();
  }
}

void AdamW::export_state(TensorMap& state) const {
  for (const Group& group : groups_) {
    for (size_t i = 0; i < group.names.size(); ++i) {
      state["adam_m/" + group.names[i]] = group.first_moments[i];
      state["adam_v/" + group.names[i]] = group.second_moments[i];
      state["adam_step"] = group.steps[i].view({1});
    }
  }
}

void AdamW::import_state(const TensorMap& state) {
  const auto take = [&](const std::string& name, at::Tensor& into) {
    const auto found = state.find(name);
    if (found == state.end())
      throw Error(codes::kCheckpointContent, "The training checkpoint has no tensor '" + name + "'.");
    if (found->second.numel() != into.numel() || found->second.scalar_type() != into.scalar_type()) {
      throw Error(codes::kCheckpointContent,
                  "The training checkpoint's tensor '" + name + "' has the wrong shape or type.");
    }
    into.copy_(found->second.view(into.sizes()));
  };
  for (Group& group : groups_) {
    for (size_t i = 0; i < group.names.size(); ++i) {
      take("adam_m/" + group.names[i], group.first_moments[i]);
      take("adam_v/" + group.names[i], group.second_moments[i]);
      take("adam_step", group.steps[i]);
    }
  }
}

}  // namespace ltrp
