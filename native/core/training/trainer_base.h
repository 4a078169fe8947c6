// What both trainers share: options, the step with gradient accumulation, training state on disk.
#pragma once

#include <map>
#include <string>

#include "core/training/augment.h"
#include "core/training/optimizer.h"
#include "core/training/trainer.h"

namespace ltrp {

// Refuses values out of range with one sentence naming the option.
void validate(const TrainingOptions& options);

class TrainerBase : public Trainer {
 public:
  int64_t step() const final { return step_; }
  StepResult train_step(std::span<const Picture> pictures, const RunContext& context) final;
  EvaluationResult evaluate(std::span<const Picture> pictures, const RunContext& context) final;
  void save(const std::string& path) const final;

  // Continues from the tensors and the step of a training checkpoint.
  void restore(const TensorMap& state, int64_t step);

 protected:
  // Geometry of the training input.
  struct Input {
    int64_t height, width;
    at::ArrayRef<double> mean, std;
  };
  struct LossParts {
    at::Tensor loss;  // mean over the micro-batch, with autograd history
    double teacher_seconds = 0;
  };
  // Sums over the pictures of a micro-batch; divided by `pictures` at the end.
  struct EvaluationSums {
    double reconstruction_error = 0, loss = 0, kendall_tau = 0, ndcg = 0;
  };

  explicit TrainerBase(const TrainingOptions& options);
  // Called once by the constructors of the trainers, when the model exists.
  void start(const TensorMap& model_tensors);

  virtual Input input() const = 0;
  // images [m, 3, H, W]; `first_stream` numbers the first picture among all pictures ever trained on.
  virtual LossParts micro_loss(const at::Tensor& images, uint64_t first_stream,
                               const RunContext& context) = 0;
  // `first` numbers the first picture within the evaluated set.
  virtual EvaluationSums evaluate_batch(const at::Tensor& images, uint64_t first,
                                        const RunContext& context) = 0;
  virtual EvaluationResult evaluation_result(const EvaluationSums& sums, int64_t pictures) const = 0;
  // Metadata of a training checkpoint beyond format and step.
  virtual std::map<std::string, std::string> metadata() const = 0;

  const TrainingOptions& training() const { return options_; }
  uint64_t mask_seed() const;
  uint64_t evaluation_seed() const;

 private:
  TrainingOptions options_;
  TensorMap model_tensors_;  // shares storage with the model
  std::optional<AdamW> optimizer_;
  int64_t step_ = 0;
};

// Autocast to bfloat16 for the lifetime of the object when asked for; weights stay float32.
class AutocastScope {
 public:
  AutocastScope(TrainingPrecision precision, at::DeviceType device);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  bool active_;
  at::DeviceType device_;
};

}  // namespace ltrp
