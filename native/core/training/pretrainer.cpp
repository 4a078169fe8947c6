#include "core/training/pretrainer.h"

#include <ATen/ATen.h>

#include "core/check.h"
#include "core/engine/masking.h"
#include "core/training/options_json.h"

namespace ltrp {

Pretrainer::Pretrainer(const PretrainOptions& options)
    : TrainerBase((validate(options), options.training), options.model),
      options_(options),
      model_(MaskedAutoencoder::initialized(options.model, options.training.seed, options.training.device)) {
  if (!options.model.decoder) invalid("model.decoder must be given: pre-training reconstructs; got none.");
  visible_count(options.model.grid().patches(), options.training.mask_ratio);
  start(model_.tensors(), model_.transformers());
}

void Pretrainer::begin(const RunContext& context) {
  if (options_.init.empty()) return;
  const MaeCheckpoint from = load_checkpoint<MaeConfig>(options_.init, {.incomplete = true}, context);
  const MaeConfig &given = from.config, &own = options_.model;
  check_same_vit(options_.init, given);
  // An encoder alone is what the authors of MAE give away; its decoder begins at random.
  if (given.decoder) check_same_geometry(options_.init, "decoder", *given.decoder, *own.decoder);
  begin_from(from.tensors, given.grid());
}

at::Tensor Pretrainer::masked_error(const at::Tensor& images, uint64_t seed, uint64_t first) const {
  const int64_t patches = options_.model.grid().patches();
  const at::Tensor visible = visible_ids(images.size(0), seed, first);
  const at::Tensor masked = masked_from_visible(visible, patches);
  at::Tensor predicted;
  {
    const AutocastScope autocast(autocasts(), images.device().type());
    const at::Tensor tokens =
        model_.decoder_input(model_.encode(images, visible), visible, options_.model.grid());
    predicted = model_.decode_at(tokens, masked + 1);
  }
  const at::Tensor target =
      target_patches(images, options_.model.patch_size, options_.model.normalized_target);
  return at::mse_loss(predicted.to(at::kFloat), gather_tokens(target, masked));
}

TrainerBase::LossParts Pretrainer::micro_loss(const MicroBatch& batch, const RunContext&) {
  return {masked_error(batch.images, mask_seed(), batch.first), 0};
}

TrainerBase::BatchEvaluation Pretrainer::evaluate_batch(const MicroBatch& batch, const RunContext&) {
  EvaluationResult sums;
  sums.reconstruction_error = masked_error(batch.images, evaluation_seed(), batch.first).item<double>() *
                              static_cast<double>(batch.images.size(0));
  sums.loss = sums.reconstruction_error;
  return {sums, {}};
}

std::map<std::string, std::string> Pretrainer::metadata() const {
  return {{"kind", "pretrain"}, {"options", to_json(options_)}};
}

void Pretrainer::export_model(const std::string& path, StoredType type) const {
  save_checkpoint(path, options_.model, weights(), type);
}

}  // namespace ltrp
