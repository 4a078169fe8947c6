#include "core/training/trainer_base.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <c10/core/GradMode.h>

#include <chrono>
#include <cmath>

#include "core/checkpoint/safetensors.h"
#include "core/error.h"
#include "core/random.h"
#include "kernels/queue.h"

namespace ltrp {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Independent streams of random numbers out of one seed.
constexpr uint64_t kCropStream = 1, kMaskStream = 2, kEvaluationStream = 3;

[[noreturn]] void refuse(const std::string& what) { throw Error(codes::kInvalidArgument, what); }

}  // namespace

void validate(const TrainingOptions& o) {
  if (o.batch_size < 1) refuse("batchSize must be at least 1.");
  if (o.micro_batch_size < 1 || o.micro_batch_size > o.batch_size)
    refuse("microBatchSize must lie between 1 and batchSize.");
  if (o.steps < 1) refuse("steps must be at least 1.");
  if (o.warmup_steps < 0 || o.warmup_steps > o.steps) refuse("warmupSteps must lie between 0 and steps.");
  if (!(o.learning_rate > 0) || !std::isfinite(o.learning_rate))
    refuse("learningRate must be a positive number.");
  if (!(o.weight_decay >= 0) || !std::isfinite(o.weight_decay))
    refuse("weightDecay must be 0 or a positive number.");
  if (!(o.beta1 >= 0 && o.beta1 < 1) || !(o.beta2 >= 0 && o.beta2 < 1))
    refuse("beta1 and beta2 must lie in [0, 1).");
  if (o.clip_gradient_norm && !(*o.clip_gradient_norm > 0))
    refuse("clipGradientNorm must be a positive number or null.");
  if (!(o.crop_scale_min > 0 && o.crop_scale_min <= o.crop_scale_max && o.crop_scale_max <= 1)) {
    refuse("cropScale must be two shares of the picture's area with 0 < minimum <= maximum <= 1.");
  }
  if (!(o.mask_ratio > 0 && o.mask_ratio < 1)) refuse("maskRatio must lie between 0 and 1, both excluded.");
}

AutocastScope::AutocastScope(TrainingPrecision precision, at::DeviceType device)
    : active_(precision == TrainingPrecision::kBFloat16), device_(device) {
  if (!active_) return;
  at::autocast::set_autocast_dtype(device_, at::kBFloat16);
  at::autocast::set_autocast_enabled(device_, true);
}

AutocastScope::~AutocastScope() {
  if (!active_) return;
  at::autocast::set_autocast_enabled(device_, false);
  at::autocast::clear_cache();
}

TrainerBase::TrainerBase(const TrainingOptions& options) : options_(options) { validate(options_); }

void TrainerBase::start(const TensorMap& model_tensors) {
  model_tensors_ = model_tensors;
  optimizer_.emplace(model_tensors_, options_);
}

uint64_t TrainerBase::mask_seed() const { return mix_seed(options_.seed, kMaskStream); }
uint64_t TrainerBase::evaluation_seed() const { return mix_seed(options_.seed, kEvaluationStream); }

StepResult TrainerBase::train_step(std::span<const Picture> pictures, const RunContext& context) {
  if (static_cast<int64_t>(pictures.size()) != options_.batch_size) {
    refuse("A training step takes exactly " + std::to_string(options_.batch_size) +
           " pictures (batchSize); got " + std::to_string(pictures.size()) + ".");
  }
  if (step_ >= options_.steps)
    refuse("All " + std::to_string(options_.steps) + " steps of this run are done.");
  const auto begin = Clock::now();
  StepResult result;
  const std::unique_ptr<Queue> queue = open_queue(options_.device);
  const Input in = input();
  const CropOptions crops{options_.crop_scale_min, options_.crop_scale_max, options_.flip};
  optimizer_->zero_gradients();
  for (int64_t first = 0; first < options_.batch_size; first += options_.micro_batch_size) {
    context.check();
    const int64_t count = std::min(options_.micro_batch_size, options_.batch_size - first);
    const auto stream = static_cast<uint64_t>(step_ * options_.batch_size + first);
    const auto augment_begin = Clock::now();
    const at::Tensor images =
        augment(pictures.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), in.height, in.width,
                crops, in.mean, in.std, mix_seed(options_.seed, kCropStream), stream);
    result.augment_seconds += seconds_since(augment_begin);
    const LossParts parts = micro_loss(queue->arrived(queue->upload(images)), stream, context);
    const double share = static_cast<double>(count) / static_cast<double>(options_.batch_size);
    (parts.loss * share).backward();
    result.loss += parts.loss.item<double>() * share;
    result.teacher_seconds += parts.teacher_seconds;
  }
  context.check();
  if (!std::isfinite(result.loss)) {
    throw Error(codes::kInvalidArgument,
                "The loss is no longer finite at step " + std::to_string(step_ + 1) +
                    "; lower learningRate or set clipGradientNorm, and resume from the last checkpoint.");
  }
  result.gradient_norm = optimizer_->clip_gradients(options_.clip_gradient_norm);
  result.learning_rate = scheduled_learning_rate(options_, step_);
  optimizer_->update(result.learning_rate);
  result.step = ++step_;
  result.total_seconds = seconds_since(begin);
  return result;
}

EvaluationResult TrainerBase::evaluate(std::span<const Picture> pictures, const RunContext& context) {
  if (pictures.empty()) refuse("There is no picture to evaluate on.");
  const c10::NoGradGuard no_grad;
  const std::unique_ptr<Queue> queue = open_queue(options_.device);
  const Input in = input();
  EvaluationSums sums;
  const auto total = static_cast<int64_t>(pictures.size());
  for (int64_t first = 0; first < total; first += options_.micro_batch_size) {
    context.check();
    const int64_t count = std::min(options_.micro_batch_size, total - first);
    const at::Tensor images =
        centre_crops(pictures.subspan(static_cast<size_t>(first), static_cast<size_t>(count)), in.height,
                     in.width, in.mean, in.std);
    const EvaluationSums part =
        evaluate_batch(queue->arrived(queue->upload(images)), static_cast<uint64_t>(first), context);
    sums.reconstruction_error += part.reconstruction_error;
    sums.loss += part.loss;
    sums.kendall_tau += part.kendall_tau;
    sums.ndcg += part.ndcg;
    context.progress(first + count, total);
  }
  return evaluation_result(sums, total);
}

void TrainerBase::save(const std::string& path) const {
  TensorMap state;
  for (const auto& [name, tensor] : model_tensors_) state["model/" + name] = tensor.detach();
  optimizer_->export_state(state);
  for (auto& entry : state) entry.second = entry.second.to(at::kCPU);
  std::map<std::string, std::string> header = metadata();
  header["format"] = "ltrp-training-1";
  header["step"] = std::to_string(step_);
  write_safetensors(path, state, header);
}

void TrainerBase::restore(const TensorMap& state, int64_t step) {
  const c10::NoGradGuard no_grad;
  for (auto& [name, tensor] : model_tensors_) {
    const auto found = state.find("model/" + name);
    if (found == state.end()) {
      throw Error(codes::kCheckpointContent, "The training checkpoint has no tensor 'model/" + name + "'.");
    }
    if (found->second.sizes() != tensor.sizes() || found->second.scalar_type() != tensor.scalar_type()) {
      throw Error(codes::kCheckpointContent,
                  "The training checkpoint's tensor 'model/" + name + "' has the wrong shape or type.");
    }
    tensor.copy_(found->second);
  }
  optimizer_->import_state(state);
  if (step < 0 || step > options_.steps) {
    throw Error(codes::kCheckpointContent,
                "The training checkpoint's step " + std::to_string(step) + " is outside its run.");
  }
  step_ = step;
}

}  // namespace ltrp
