#include "core/training/ranker_trainer.h"

#include <ATen/ATen.h>
#include <nlohmann/json.hpp>

#include <chrono>
#include <cstdio>

#include "core/engine/agreement.h"
#include "core/engine/masking.h"
#include "core/error.h"
#include "core/random.h"
#include "core/training/options_json.h"

namespace ltrp {

namespace {

// One loss draws its items from this stream of the seed.
constexpr uint64_t kLossStream = 4;

}  // namespace

RankerTrainer::RankerTrainer(const RankerTrainingOptions& options)
    : TrainerBase(options.training),
      options_(options),
      teacher_(load_mae_checkpoint(options.teacher), at::kFloat, options.training.device),
      model_(PatchRanker::initialized(options.model, options.training.seed, options.training.device)) {
  if (teacher_.config().patch_size != options.model.patch_size) {
    throw Error(codes::kInvalidArgument,
                "The teacher's patches are " + std::to_string(teacher_.config().patch_size) +
                    " pixels wide, the ranker's " + std::to_string(options.model.patch_size) +
                    "; they must be the same.");
  }
  visible_count(options.model.grid().patches(), options.training.mask_ratio);
  if (options.start == RankerStart::kTeacher) start_from_teacher();
  // It is frozen: nearly all of a step goes into its decodes, several times faster with packed weights.
  teacher_.pack();
  start(model_.tensors());
}

void RankerTrainer::start_from_teacher() {
  const TransformerConfig &teacher = teacher_.config().encoder, &ranker = options_.model.encoder;
  if (ranker.dim != teacher.dim || ranker.heads != teacher.heads || ranker.mlp_dim != teacher.mlp_dim ||
      ranker.depth > teacher.depth) {
    throw Error(codes::kInvalidArgument,
                "A ranker that starts as its teacher needs the teacher's width (dim " +
                    std::to_string(teacher.dim) + ", " + std::to_string(teacher.heads) + " heads, mlpDim " +
                    std::to_string(teacher.mlp_dim) + ") and at most its depth of " +
                    std::to_string(teacher.depth) + ".");
  }
  for (const auto& [name, tensor] : model_.tensors()) {
    if (name == "cls_token" || name.starts_with("patch_embed.") || name.starts_with("blocks.")) {
      tensor.copy_(teacher_.tensors().at(name));
    }
  }
}

std::string RankerTrainer::fingerprint(const MaskedAutoencoder& teacher) {
  double sum = 0;
  // On the CPU, whose order of additions is the same wherever the teacher is.
  for (const auto& entry : teacher.tensors()) {
    sum += entry.second.to(at::kCPU).to(at::kDouble).abs().sum().item<double>();
  }
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", sum);
  return text;
}

TrainerBase::Input RankerTrainer::input() const {
  return {options_.model.image_height, options_.model.image_width, options_.model.mean, options_.model.std};
}

at::Tensor RankerTrainer::for_teacher(const at::Tensor& images) const {
  const MaeConfig& teacher = teacher_.config();
  if (teacher.mean == options_.model.mean && teacher.std == options_.model.std) return images;
  const auto row = [&](const std::array<double, 3>& values) {
    return at::tensor(at::ArrayRef<double>(values), at::kFloat).view({1, 3, 1, 1}).to(images.device());
  };
  return (images * row(options_.model.std) + row(options_.model.mean) - row(teacher.mean)) / row(teacher.std);
}

at::Tensor RankerTrainer::visible_ids(int64_t images, uint64_t seed, uint64_t first) const {
  const int64_t patches = options_.model.grid().patches();
  return visible_from_noise(masking_noise(images, patches, seed, static_cast<int64_t>(first)),
                            visible_count(patches, training().mask_ratio))
      .to(training().device);
}

at::Tensor RankerTrainer::teacher_scores(const at::Tensor& images, const at::Tensor& visible,
                                         const RunContext& context) const {
  const RunContext silent = context.without_progress();
  // Cloned out of inference mode, so that losses may save it for their backward pass.
  return leave_one_out_scores(teacher_, for_teacher(images), visible, options_.scores, silent)
      .to(training().device, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
}

TrainerBase::LossParts RankerTrainer::micro_loss(const at::Tensor& images, uint64_t first_stream,
                                                 const RunContext& context) {
  const auto begin = std::chrono::steady_clock::now();
  const at::Tensor visible = visible_ids(images.size(0), mask_seed(), first_stream);
  const at::Tensor target = teacher_scores(images, visible, context);
  const double teacher_seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  at::Tensor logits;
  {
    const AutocastScope autocast(training().precision, images.device().type());
    logits = options_.input == RankerInput::kFull ? model_.forward(images) : model_.forward(images, visible);
  }
  RankingLossOptions loss_options;
  loss_options.k = options_.loss_k;
  loss_options.seed = mix_seed(mix_seed(training().seed, kLossStream), first_stream);
  return {ranking_loss(options_.loss, logits.to(at::kFloat).gather(1, visible), target, loss_options),
          teacher_seconds};
}

TrainerBase::EvaluationSums RankerTrainer::evaluate_batch(const at::Tensor& images, uint64_t first,
                                                          const RunContext& context) {
  const at::Tensor visible = visible_ids(images.size(0), evaluation_seed(), first);
  const at::Tensor target = teacher_scores(images, visible, context).to(at::kCPU);
  const at::Tensor logits = model_.forward(images).gather(1, visible).to(at::kCPU);
  EvaluationSums sums;
  // A constant list has no tau; it counts as no agreement.
  sums.kendall_tau = kendall_tau(logits, target).nan_to_num(0).sum().item<double>();
  sums.ndcg = ndcg(logits, target).sum().item<double>();
  RankingLossOptions loss_options;
  loss_options.k = options_.loss_k;
  sums.loss = ranking_loss(options_.loss, logits, target, loss_options).item<double>() *
              static_cast<double>(images.size(0));
  return sums;
}

EvaluationResult RankerTrainer::evaluation_result(const EvaluationSums& sums, int64_t pictures) const {
  const auto count = static_cast<double>(pictures);
  EvaluationResult result;
  result.loss = sums.loss / count;
  result.kendall_tau = sums.kendall_tau / count;
  result.ndcg = sums.ndcg / count;
  return result;
}

std::map<std::string, std::string> RankerTrainer::metadata() const {
  return {{"kind", "ranker"},
          {"options", to_json(options_).dump()},
          {"teacher_fingerprint", fingerprint(teacher_)}};
}

void RankerTrainer::export_model(const std::string& path, StoredType type) const {
  TensorMap tensors;
  for (const auto& [name, tensor] : model_.tensors()) tensors[name] = tensor.detach().to(at::kCPU);
  save_ranker_checkpoint(path, options_.model, tensors, type);
}

}  // namespace ltrp
