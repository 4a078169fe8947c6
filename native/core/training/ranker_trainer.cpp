#include "core/training/ranker_trainer.h"

#include <ATen/ATen.h>

#include <chrono>
#include <cstdio>

#include "core/check.h"
#include "core/engine/agreement.h"
#include "core/engine/leave_one_out.h"
#include "core/engine/masking.h"
#include "core/engine/smoothing.h"
#include "core/random.h"
#include "core/training/options_json.h"

namespace ltrp {

namespace {

// One loss draws its items from this stream of the seed.
constexpr uint64_t kLossStream = 4;

// What a run that learns from maps cannot ask for.
void check_without_teacher(const RankerTrainingOptions& options) {
  if (!options.teacher.empty()) invalid("teacher is not for targets 'maps': the maps are its scores.");
  if (options.input != RankerInput::kFull) {
    invalid("input must be 'full' with targets 'maps', which are of all patches; got 'visible'.");
  }
  if (options.start != RankerStart::kRandom)
    invalid("start must be 'random' with targets 'maps'; got 'teacher'.");
}

}  // namespace

RankerTrainer::RankerTrainer(const RankerTrainingOptions& options, const RunContext& context)
    : TrainerBase((validate(options), options.training), options.model),
      options_(options),
      model_(PatchRanker::initialized(options.model, options.training.seed, options.training.device)) {
  if (learns_from_maps()) {
    check_without_teacher(options);
  } else {
    if (options.smoothing != 0) invalid("smoothing is for targets 'maps'.");
    teacher_.emplace(load_checkpoint<MaeConfig>(options.teacher, {}, context), at::kFloat,
                     options.training.device, context);
    if (teacher_->config().patch_size != options.model.patch_size) {
      invalid("The teacher's patches are " + std::to_string(teacher_->config().patch_size) +
              " pixels wide, the ranker's " + std::to_string(options.model.patch_size) +
              "; they must be the same.");
    }
    visible_count(options.model.grid().patches(), options.training.mask_ratio);
    if (options.start == RankerStart::kTeacher) start_from_teacher();
    // It is frozen: nearly all of a step goes into its decodes, several times faster with packed weights.
    teacher_->pack();
  }
  start(model_.tensors(), {&model_.vit().blocks()});
}

void RankerTrainer::begin(const RunContext& context) {
  if (options_.init.empty()) return;
  const RankerCheckpoint from = load_checkpoint<RankerConfig>(options_.init, {}, context);
  const RankerConfig &given = from.config, &own = options_.model;
  check_same_vit(options_.init, given);
  if (given.head != own.head) {
    invalid("The head of '" + options_.init + "' is '" + name_of(given.head) +
            "'; the run begins from these weights and must have the same, but asks for '" +
            name_of(own.head) + "'.");
  }
  if (own.head == RankerHead::kCls && given.grid() != own.grid()) {
    invalid("The head 'cls' of '" + options_.init +
            "' has a logit for every patch of its own grid; the run must have the image size " +
            std::to_string(given.image_height) + " x " + std::to_string(given.image_width) +
            " of these weights.");
  }
  begin_from(from.tensors, given.grid());
}

void RankerTrainer::start_from_teacher() {
  const TransformerConfig &teacher = teacher_->config().encoder, &ranker = options_.model.encoder;
  if (ranker.dim != teacher.dim || ranker.heads != teacher.heads || ranker.mlp_dim != teacher.mlp_dim ||
      ranker.depth > teacher.depth) {
    invalid("A ranker that starts as its teacher needs the teacher's width (dim " +
            std::to_string(teacher.dim) + ", " + std::to_string(teacher.heads) + " heads, mlpDim " +
            std::to_string(teacher.mlp_dim) + ") and at most its depth of " + std::to_string(teacher.depth) +
            ".");
  }
  for (const auto& [name, tensor] : model_.tensors()) {
    if (name == "cls_token" || name.starts_with("patch_embed.") || name.starts_with("blocks.")) {
      tensor.copy_(teacher_->tensors().at(name));
    }
  }
}

std::string RankerTrainer::teacher_fingerprint() const {
  if (!teacher_) return "";
  double sum = 0;
  // One by one: at::sum() would share the work out, and round by how many threads and lanes there are.
  for (const auto& entry : teacher_->tensors()) {
    const at::Tensor values = entry.second.to(at::kCPU, at::kDouble).contiguous();
    const auto* value = values.const_data_ptr<double>();
    for (int64_t i = 0; i < values.numel(); ++i) sum += std::abs(value[i]);
  }
  char text[40];
  std::snprintf(text, sizeof text, "%.17g", sum);
  return text;
}

at::Tensor RankerTrainer::map_targets(const MicroBatch& batch, const RunContext& context) const {
  return smoothed_ranks(batch.scores, options_.model.grid(), options_.smoothing, context);
}

at::Tensor RankerTrainer::for_teacher(const at::Tensor& images) const {
  return renormalized(images, options_.model, teacher_->config());
}

at::Tensor RankerTrainer::teacher_scores(const at::Tensor& images, const at::Tensor& visible,
                                         const RunContext& context) const {
  const RunContext silent = context.without_progress();
  // Cloned out of inference mode, so that losses may save it for their backward pass.
  return leave_one_out_scores(*teacher_, for_teacher(images), visible, options_.scores, silent)
      .to(training().device, at::kFloat, /*non_blocking=*/false, /*copy=*/true);
}

RankingLossOptions RankerTrainer::loss_options(const at::Tensor& logits, uint64_t seed,
                                               uint64_t first) const {
  RankingLossOptions result;
  result.k = options_.loss_k;
  // Of each picture by its number, so that the draw is the same however a batch is split.
  if (result.k) {
    result.noise = masking_noise(logits.size(0), logits.size(1), mix_seed(seed, kLossStream),
                                 static_cast<int64_t>(first));
  }
  return result;
}

TrainerBase::LossParts RankerTrainer::micro_loss(const MicroBatch& batch, const RunContext& context) {
  const at::Tensor& images = batch.images;
  const auto begin = std::chrono::steady_clock::now();
  at::Tensor visible, target;
  double teacher_seconds = 0;
  if (learns_from_maps()) {
    target = map_targets(batch, context);
  } else {
    visible = visible_ids(images.size(0), mask_seed(), batch.first);
    target = teacher_scores(images, visible, context);
    teacher_seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  }
  at::Tensor logits;
  {
    const AutocastScope autocast(autocasts(), images.device().type());
    logits = options_.input == RankerInput::kFull ? model_.forward(images) : model_.forward(images, visible);
  }
  logits = logits.to(at::kFloat);
  if (visible.defined()) logits = logits.gather(1, visible);
  return {ranking_loss(options_.loss, logits, target, loss_options(logits, training().seed, batch.first),
                       context.without_progress()),
          teacher_seconds};
}

TrainerBase::BatchEvaluation RankerTrainer::evaluate_batch(const MicroBatch& batch,
                                                           const RunContext& context) {
  const at::Tensor& images = batch.images;
  at::Tensor target, logits = model_.forward(images);
  if (learns_from_maps()) {
    target = map_targets(batch, context);
  } else {
    const at::Tensor visible = visible_ids(images.size(0), evaluation_seed(), batch.first);
    target = teacher_scores(images, visible, context);
    logits = logits.gather(1, visible);
  }
  target = target.to(at::kCPU);
  logits = logits.to(at::kCPU);
  EvaluationResult sums;
  // A constant list has no tau; it counts as no agreement.
  sums.kendall_tau = kendall_tau(logits, target, context).nan_to_num(0).sum().item<double>();
  sums.ndcg = ndcg(logits, target, /*k=*/0, context).sum().item<double>();
  sums.loss = ranking_loss(options_.loss, logits, target,
                           loss_options(logits, evaluation_seed(), batch.first), context.without_progress())
                  .item<double>() *
              static_cast<double>(images.size(0));
  return {sums, {}};
}

std::map<std::string, std::string> RankerTrainer::metadata() const {
  return {{"kind", "ranker"}, {"options", to_json(options_)}, {"teacher_fingerprint", teacher_fingerprint()}};
}

void RankerTrainer::export_model(const std::string& path, StoredType type) const {
  save_checkpoint(path, options_.model, weights(), type);
}

}  // namespace ltrp
