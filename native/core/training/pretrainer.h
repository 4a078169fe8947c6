// Masked-autoencoder pre-training (He et al. 2022): mean squared error on masked patches.
#pragma once

#include "core/model/mae.h"
#include "core/training/trainer_base.h"

namespace ltrp {

class Pretrainer final : public TrainerBase {
 public:
  explicit Pretrainer(const PretrainOptions& options);
  // Takes the weights of options.init.
  void begin(const RunContext& context);
  void export_model(const std::string& path, StoredType type) const override;
  const PretrainOptions* pretrain_options() const override { return &options_; }

 private:
  LossParts micro_loss(const MicroBatch& batch, const RunContext& context) override;
  BatchEvaluation evaluate_batch(const MicroBatch& batch, const RunContext& context) override;
  std::map<std::string, std::string> metadata() const override;
  // Mean squared error on the masked patches of images [m, 3, H, W] under the masks of (seed, first ...).
  at::Tensor masked_error(const at::Tensor& images, uint64_t seed, uint64_t first) const;

  PretrainOptions options_;
  MaskedAutoencoder model_;
};

}  // namespace ltrp
