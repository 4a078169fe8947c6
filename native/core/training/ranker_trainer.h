// Training of the ranker against a frozen teacher's leave-one-out scores, or against stored maps of such
// (docs/method.md, 3, 4 and 6).
#pragma once

#include "core/model/mae.h"
#include "core/model/ranker.h"
#include "core/training/trainer_base.h"

namespace ltrp {

class RankerTrainer final : public TrainerBase {
 public:
  RankerTrainer(const RankerTrainingOptions& options, const RunContext& context);
  // Takes the weights of options.init.
  void begin(const RunContext& context);
  void export_model(const std::string& path, StoredType type) const override;
  const RankerTrainingOptions* ranker_options() const override { return &options_; }

  // A number that changes when the teacher's weights do: a resumed run must have the same teacher. Empty
  // without one.
  std::string teacher_fingerprint() const;

 private:
  LossParts micro_loss(const MicroBatch& batch, const RunContext& context) override;
  BatchEvaluation evaluate_batch(const MicroBatch& batch, const RunContext& context) override;
  std::map<std::string, std::string> metadata() const override;
  bool learns_from_maps() const override { return options_.targets == RankerTargets::kMaps; }

  void start_from_teacher();
  RankingLossOptions loss_options(const at::Tensor& logits, uint64_t seed, uint64_t first) const;
  // The teacher's scores [m, V] at the visible ids, free of autograd and inference mode.
  at::Tensor teacher_scores(const at::Tensor& images, const at::Tensor& visible,
                            const RunContext& context) const;
  // What is learned [m, L] of the batch's stored maps.
  at::Tensor map_targets(const MicroBatch& batch, const RunContext& context) const;
  // The ranker's input under the pixel statistics the teacher was trained with.
  at::Tensor for_teacher(const at::Tensor& images) const;

  RankerTrainingOptions options_;
  std::optional<MaskedAutoencoder> teacher_;
  PatchRanker model_;
};

}  // namespace ltrp
