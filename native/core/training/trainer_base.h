// What both trainers share: options, the step with gradient accumulation, training state on disk.
#pragma once

#include <map>
#include <string>

#include "core/model/transformer.h"
#include "core/training/augment.h"
#include "core/training/gradient_sum.h"
#include "core/training/optimizer.h"
#include "core/training/trainer.h"
#include "kernels/queue.h"

namespace ltrp {

// Refuses weights that a run cannot begin from: those of `path` have `given`, the run's model has `own`.
void check_same_geometry(const std::string& path, const char* part, const TransformerConfig& given,
                         const TransformerConfig& own);

// Images [n, 3, H, W] that were normalised as `from` says, as `to` says.
at::Tensor renormalized(const at::Tensor& images, const VitConfig& from, const VitConfig& to);

class TrainedBlocks;

class TrainerBase : public Trainer {
 public:
  int64_t step() const final { return step_; }
  void join(std::shared_ptr<Ranks> ranks) final;
  BatchPart part() const final;
  StepResult train_step(std::span<const Picture> pictures, const RunContext& context) final;
  EvaluationResult evaluate(std::span<const Picture> pictures, const RunContext& context) final;
  void save(const std::string& path) const final;

  // Continues from the tensors and the step of a training checkpoint.
  void restore(const TensorMap& state, int64_t step);

 protected:
  struct LossParts {
    at::Tensor loss;  // mean over the micro-batch, with autograd history
    double teacher_seconds = 0;
  };

  struct MicroBatch {
    at::Tensor images;                  // [m, 3, H, W], on the device
    at::Tensor scores;                  // [m, L] of learns_from_maps(), else undefined
    std::span<const Picture> pictures;  // that they were made of
    uint64_t first = 0;  // numbers the first one among all pictures ever trained on, or of the evaluated set
  };

  struct BatchEvaluation {
    EvaluationResult sums;  // over the pictures of a micro-batch
    // [m, classes] each for judge(), on the CPU; undefined where it needs none.
    at::Tensor logits = {}, targets = {};
  };

  // `model`: the part of its geometry that every model has.
  TrainerBase(const TrainingOptions& options, const VitConfig& model);
  // Called once by the constructors of the trainers, when the model exists.
  void start(const TensorMap& model_tensors, const std::vector<Transformer*>& transformers,
             const TensorRules& rules = plain_rule);

  virtual LossParts micro_loss(const MicroBatch& batch, const RunContext& context) = 0;
  virtual BatchEvaluation evaluate_batch(const MicroBatch& batch, const RunContext& context) = 0;
  // Classes that judge() is given of each picture; 0: it is not called.
  virtual int64_t judged_classes() const { return 0; }
  // Adds what only all pictures together tell, by the logits and targets [n, classes] that evaluate_batch()
  // left.
  virtual void judge(const at::Tensor& /*logits*/, const at::Tensor& /*targets*/, EvaluationResult&,
                     const RunContext&) const {}
  // Pictures that follow each other and must stay in one part of a batch.
  virtual int64_t together() const { return 1; }
  // Whether evaluation squeezes whole pictures where others are cropped.
  virtual bool evaluates_whole_pictures() const { return false; }
  // Of the step that follows `done` finished ones.
  virtual double learning_rate(int64_t done) const { return scheduled_learning_rate(options_, done); }
  // Error(kInvalidArgument) for pictures that cannot be trained on or judged by.
  virtual void check_pictures(std::span<const Picture>) const {}
  // Whether pictures bring scored crops.
  virtual bool learns_from_maps() const { return false; }
  // Metadata of a training checkpoint beyond format and step.
  virtual std::map<std::string, std::string> metadata() const = 0;

  const TrainingOptions& training() const { return options_; }
  // Whether LibTorch's products are to be bfloat16.
  bool autocasts() const;
  uint64_t mask_seed() const;
  uint64_t evaluation_seed() const;
  // Of `images` whose numbers begin at `first`: [images, V] on the device.
  at::Tensor visible_ids(int64_t images, uint64_t seed, uint64_t first) const;
  // The model's weights as files hold them: on the CPU, without history.
  TensorMap weights() const;

  // Refuses weights of `path` that a run cannot begin from because the encoder or the patches differ.
  void check_same_vit(const std::string& path, const VitConfig& given) const;
  // Begins from given weights: those of `tensors` that the model has. Position tables of another `grid` are
  // interpolated.
  void begin_from(const TensorMap& tensors, Grid grid);

 private:
  // Error(kInvalidArgument) for pictures that bring scored crops and must not, or the other way round.
  void check_maps(std::span<const Picture> pictures) const;
  // [m, L] of the pictures; undefined without maps.
  at::Tensor stored_scores(std::span<const Picture> pictures) const;
  MicroBatch uploaded(Queue& queue, const at::Tensor& images, std::span<const Picture> pictures,
                      uint64_t first) const;

  TrainingOptions options_;
  VitConfig model_;
  TensorMap model_tensors_;  // shares storage with the model
  std::vector<std::shared_ptr<TrainedBlocks>> own_passes_;
  std::optional<AdamW> optimizer_;
  std::shared_ptr<Ranks> ranks_;  // null: this process is alone
  std::optional<GradientSum> sum_;
  int64_t step_ = 0;
};

// Autocast to bfloat16 for the lifetime of the object if `active`; weights stay float32.
class AutocastScope {
 public:
  AutocastScope(bool active, at::DeviceType device);
  ~AutocastScope();
  AutocastScope(const AutocastScope&) = delete;
  AutocastScope& operator=(const AutocastScope&) = delete;

 private:
  bool active_;
  at::DeviceType device_;
};

}  // namespace ltrp
