#include "core/training/pretrainer.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include "core/engine/masking.h"
#include "core/error.h"
#include "core/training/options_json.h"

namespace ltrp {

Pretrainer::Pretrainer(const PretrainOptions& options)
    : TrainerBase(options.training),
      options_(options),
      model_(MaskedAutoencoder::initialized(options.model, options.training.seed, options.training.device)) {
  if (!options.model.decoder)
    throw Error(codes::kInvalidArgument, "Pre-training needs a decoder; give its geometry.");
  visible_count(options.model.grid().patches(), options.training.mask_ratio);
  start(model_.tensors());
}

TrainerBase::Input Pretrainer::input() const {
  return {options_.model.image_height, options_.model.image_width, options_.model.mean, options_.model.std};
}

at::Tensor Pretrainer::masked_error(const at::Tensor& images, uint64_t seed, uint64_t first) const {
  const int64_t patches = options_.model.grid().patches();
  const at::Tensor noise = masking_noise(images.size(0), patches, seed, static_cast<int64_t>(first));
  const at::Tensor visible =
      visible_from_noise(noise, visible_count(patches, training().mask_ratio)).to(images.device());
  const at::Tensor masked = masked_from_visible(visible, patches);
  at::Tensor predicted;
  {
    const AutocastScope autocast(training().precision, images.device().type());
    const at::Tensor tokens =
        model_.decoder_input(model_.encode(images, visible), visible, options_.model.grid());
    predicted = model_.decode_at(tokens, masked + 1);
  }
  const at::Tensor target =
      target_patches(images, options_.model.patch_size, options_.model.normalized_target);
  return (predicted.to(at::kFloat) - gather_tokens(target, masked)).square().mean();
}

TrainerBase::LossParts Pretrainer::micro_loss(const at::Tensor& images, uint64_t first_stream,
                                              const RunContext&) {
  return {masked_error(images, mask_seed(), first_stream), 0};
}

TrainerBase::EvaluationSums Pretrainer::evaluate_batch(const at::Tensor& images, uint64_t first,
                                                       const RunContext&) {
  EvaluationSums sums;
  sums.reconstruction_error =
      masked_error(images, evaluation_seed(), first).item<double>() * static_cast<double>(images.size(0));
  return sums;
}

EvaluationResult Pretrainer::evaluation_result(const EvaluationSums& sums, int64_t pictures) const {
  EvaluationResult result;
  result.reconstruction_error = sums.reconstruction_error / static_cast<double>(pictures);
  result.loss = result.reconstruction_error;
  return result;
}

std::map<std::string, std::string> Pretrainer::metadata() const {
  return {{"kind", "pretrain"}, {"options", to_json(options_).dump()}};
}

void Pretrainer::export_model(const std::string& path, StoredType type) const {
  TensorMap tensors;
  for (const auto& [name, tensor] : model_.tensors()) tensors[name] = tensor.detach().to(at::kCPU);
  save_mae_checkpoint(path, options_.model, tensors, type);
}

}  // namespace ltrp
