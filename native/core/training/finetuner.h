// Fine-tuning of a classifier that receives the patches a selector keeps (docs/method.md, 8).
#pragma once

#include "core/model/classifier.h"
#include "core/selectors/selectors.h"
#include "core/training/trainer_base.h"

namespace ltrp {

class Finetuner final : public TrainerBase {
 public:
  Finetuner(const FinetuneOptions& options, const RunContext& context);
  // Takes the weights of options.init.
  void begin(const RunContext& context);
  void export_model(const std::string& path, StoredType type) const override;
  const FinetuneOptions* finetune_options() const override { return &options_; }

 private:
  LossParts micro_loss(const MicroBatch& batch, const RunContext& context) override;
  BatchEvaluation evaluate_batch(const MicroBatch& batch, const RunContext& context) override;
  int64_t judged_classes() const override { return many() ? options_.model.classes : 0; }
  void judge(const at::Tensor& logits, const at::Tensor& targets, EvaluationResult& result,
             const RunContext& context) const override;
  int64_t together() const override;
  bool evaluates_whole_pictures() const override { return many(); }
  std::map<std::string, std::string> metadata() const override;
  double learning_rate(int64_t done) const override;
  void check_pictures(std::span<const Picture> pictures) const override;

  bool many() const { return options_.labels == Labels::kMany; }
  void check_labels() const;
  // [m, classes] float32, on the CPU: smoothed classes, or categories.
  at::Tensor targets_of(std::span<const Picture> pictures, double smoothing) const;
  // Mean over the pictures, of logits and targets [m, classes].
  at::Tensor loss_of(const at::Tensor& logits, const at::Tensor& targets) const;
  // What ML-Decoder drops of a micro-batch of which so many patches are kept; nothing of other heads.
  std::optional<MlDecoderDropout> dropout_of(const MicroBatch& batch, int64_t kept) const;
  void open_selector(const RunContext& context);
  SelectorOptions selector_options(int64_t keep) const;
  // How many patches are kept in the step of a picture with that number.
  int64_t kept_at(uint64_t number) const;
  // The `keep` patches of each image that the selector ranks highest, [m, keep]; none where all are kept.
  std::optional<at::Tensor> chosen(const at::Tensor& images, int64_t keep, uint64_t seed, uint64_t first,
                                   const RunContext& context) const;

  FinetuneOptions options_;
  Classifier model_;
  SelectorModel selector_model_;
  VitConfig selector_config_;  // its normalisation
};

}  // namespace ltrp
