// AdamW with a linear warm-up and a schedule over a model's named tensors.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <string>
#include <vector>

#include "core/training/trainer.h"
#include "core/weights/weights.h"

namespace ltrp {

// In [0, 1]: how much of the last `decay_steps` is done.
double part_of_decay(const TrainingOptions& options, int64_t done);

// Learning rate of the step that follows `done` finished steps: rises linearly to the peak over the warm-up,
// then goes by the schedule to 0 at `steps`.
double scheduled_learning_rate(const TrainingOptions& options, int64_t done);

// How a tensor is trained.
struct TensorRule {
  bool trained = true;
  bool decayed = true;
  double scale = 1;  // of the learning rate
};
using TensorRules = std::function<TensorRule(const std::string& name, const at::Tensor& tensor)>;

// Position tables are not trained; biases, norms, CLS and mask tokens are not decayed.
TensorRule plain_rule(const std::string& name, const at::Tensor& tensor);

// Decoupled weight decay (Loshchilov & Hutter 2019) through LibTorch's fused kernel.
class AdamW {
 public:
  // `tensors` are the model's own; the trained ones are made to require gradients.
  AdamW(const TensorMap& tensors, const TrainingOptions& options, const TensorRules& rules = plain_rule);

  void zero_gradients();
  // Of all groups.
  std::vector<at::Tensor> trained() const;
  // Global L2 norm of all gradients.
  double gradient_norm() const;
  // The next update scales gradients of this norm down to `limit` when it is given and exceeded.
  void clip(double norm, const std::optional<double>& limit);
  void update(double learning_rate);

  // First and second moments and step counts, for training checkpoints. Keys "adam_m/<name>",
  // "adam_v/<name>", "adam_step".
  void export_state(TensorMap& state) const;
  // Error(kCheckpointContent) naming a missing or misshapen tensor.
  void import_state(const TensorMap& state);

 private:
  struct Group {
    std::vector<std::string> names;
    std::vector<at::Tensor> weights, first_moments, second_moments, steps;
    double weight_decay = 0;
    double scale = 1;
  };
  std::vector<Group> groups_;
  double beta1_, beta2_;
  double shrink_ = 1;  // what the next update divides the gradients by
};

}  // namespace ltrp
