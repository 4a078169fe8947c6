#include "core/training/trainer_base.h"

#include <ATen/ATen.h>
#include <ATen/autocast_mode.h>
#include <ATen/ceil_div.h>
#include <c10/core/GradMode.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/check.h"
#include "core/checkpoint/safetensors.h"
#include "core/engine/masking.h"
#include "core/random.h"
#include "core/training/checksum.h"
#include "core/training/trained_blocks.h"
#include "core/weights/positions.h"
#include "kernels/linear.h"

namespace ltrp {

namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Independent streams of random numbers out of one seed.
constexpr uint64_t kCropStream = 1, kMaskStream = 2, kEvaluationStream = 3;

bool all_finite(const at::Tensor& tensor) { return at::isfinite(tensor).all().item<bool>(); }

}  // namespace

void check_same_geometry(const std::string& path, const char* part, const TransformerConfig& given,
                         const TransformerConfig& own) {
  const auto text = [](const TransformerConfig& c) {
    return "dim " + std::to_string(c.dim) + ", depth " + std::to_string(c.depth) + ", heads " +
           std::to_string(c.heads) + ", mlpDim " + std::to_string(c.mlp_dim);
  };
  if (text(given) == text(own)) return;
  invalid("The " + std::string(part) + " of '" + path + "' has " + text(given) +
          "; the run begins from these weights and must have the same, but asks for " + text(own) + ".");
}

at::Tensor renormalized(const at::Tensor& images, const VitConfig& from, const VitConfig& to) {
  if (from.mean == to.mean && from.std == to.std) return images;
  const auto row = [&](const std::array<double, 3>& values) {
    return at::tensor(at::ArrayRef<double>(values), at::kFloat).view({1, 3, 1, 1}).to(images.device());
  };
  return (images * row(from.std) + row(from.mean) - row(to.mean)) / row(to.std);
}

AutocastScope::AutocastScope(bool active, at::DeviceType device) : active_(active), device_(device) {
  if (!active_) return;
  at::autocast::set_autocast_dtype(device_, at::kBFloat16);
  at::autocast::set_autocast_enabled(device_, true);
}

AutocastScope::~AutocastScope() {
  if (!active_) return;
  at::autocast::set_autocast_enabled(device_, false);
  at::autocast::clear_cache();
}

TrainerBase::TrainerBase(const TrainingOptions& options, const VitConfig& model)
    : options_(options), model_(model) {}

void TrainerBase::start(const TensorMap& model_tensors, const std::vector<Transformer*>& transformers,
                        const TensorRules& rules) {
  model_tensors_ = model_tensors;
  optimizer_.emplace(model_tensors_, options_, rules);
  if (!options_.device.is_cpu() || !options_.own_blocks) return;
  for (Transformer* transformer : transformers) {
    own_passes_.push_back(std::make_shared<TrainedBlocks>(
        transformer->blocks, autocasts() ? Precision::kBfloat16 : Precision::kFloat32));
    transformer->pass = own_passes_.back();
  }
}

bool TrainerBase::autocasts() const {
  if (options_.precision != TrainingPrecision::kBFloat16) return false;
  // A processor that has no such products would take longer for them than for float32.
  return !options_.device.is_cpu() || !options_.own_blocks || has_fast_products(Precision::kBfloat16);
}

uint64_t TrainerBase::mask_seed() const { return mix_seed(options_.seed, kMaskStream); }
uint64_t TrainerBase::evaluation_seed() const { return mix_seed(options_.seed, kEvaluationStream); }

at::Tensor TrainerBase::visible_ids(int64_t images, uint64_t seed, uint64_t first) const {
  const int64_t patches = model_.grid().patches();
  return visible_from_noise(masking_noise(images, patches, seed, static_cast<int64_t>(first)),
                            visible_count(patches, options_.mask_ratio))
      .to(options_.device);
}

void TrainerBase::check_maps(std::span<const Picture> pictures) const {
  const auto patches = static_cast<size_t>(model_.grid().patches());
  for (size_t i = 0; i < pictures.size(); ++i) {
    const auto& scored = pictures[i].scored;
    const std::string name = "pictures[" + std::to_string(i) + "].scored";
    if (scored.has_value() != learns_from_maps()) {
      invalid(name + (scored ? " is for a ranker with targets 'maps' only." : " is missing."));
    }
    if (scored && scored->scores.size() != patches) {
      invalid(name + ".scores must have a value for each of the model's " + std::to_string(patches) +
              " patches; got " + std::to_string(scored->scores.size()) + ".");
    }
  }
}

at::Tensor TrainerBase::stored_scores(std::span<const Picture> pictures) const {
  const int64_t patches = model_.grid().patches();
  at::Tensor scores = at::empty({static_cast<int64_t>(pictures.size()), patches}, at::kFloat);
  float* row = scores.mutable_data_ptr<float>();
  for (const Picture& picture : pictures)
    row = std::copy_n(picture.scored->scores.data(), static_cast<size_t>(patches), row);
  return scores;
}

TrainerBase::MicroBatch TrainerBase::uploaded(Queue& queue, const at::Tensor& images,
                                              std::span<const Picture> pictures, uint64_t first) const {
  const Queue::Upload sent = queue.upload(images);
  if (!learns_from_maps()) return {queue.arrived(sent), {}, pictures, first};
  const Queue::Upload scores = queue.upload(stored_scores(pictures));
  return {queue.arrived(sent), queue.arrived(scores), pictures, first};
}

TensorMap TrainerBase::weights() const {
  TensorMap result;
  for (const auto& [name, tensor] : model_tensors_) result[name] = tensor.detach().to(at::kCPU);
  return result;
}

void TrainerBase::join(std::shared_ptr<Ranks> ranks) {
  const c10::NoGradGuard no_grad;
  ranks_ = std::move(ranks);
  const auto received = [&](const at::Tensor& tensor) {
    const at::Tensor copy = tensor.detach().to(at::kCPU, tensor.scalar_type(), /*non_blocking=*/false,
                                               /*copy=*/true, at::MemoryFormat::Contiguous);
    ranks_->broadcast(copy);
    return copy;
  };
  step_ = received(at::full({1}, step_, at::kLong)).item<int64_t>();
  for (auto& [name, tensor] : model_tensors_) tensor.copy_(received(tensor));
  TensorMap state;
  optimizer_->export_state(state);
  for (auto& [name, tensor] : state) tensor = received(tensor);
  optimizer_->import_state(state);
  sum_.emplace(optimizer_->trained(), ranks_);
  for (const auto& pass : own_passes_)
    pass->on_gradient = [this](const at::Tensor& weight) { sum_->complete(weight); };
}

BatchPart TrainerBase::part() const {
  if (!ranks_) return {0, options_.batch_size};
  // Rank 0 has the most, so that it is never without pictures.
  const int64_t units = options_.batch_size / together();
  const auto begin = [&](int64_t rank) { return at::ceil_div(units * rank, ranks_->size()) * together(); };
  return {begin(ranks_->rank()), begin(ranks_->rank() + 1) - begin(ranks_->rank())};
}

StepResult TrainerBase::train_step(std::span<const Picture> pictures, const RunContext& context) {
  const BatchPart part = this->part();
  if (static_cast<int64_t>(pictures.size()) != part.count) {
    invalid((ranks_ ? "pictures must be exactly this rank's part of batchSize = "
                    : "pictures must be exactly batchSize = ") +
            std::to_string(part.count) + "; got " + std::to_string(pictures.size()) + ".");
  }
  if (step_ >= options_.steps)
    invalid("All " + std::to_string(options_.steps) + " steps of this run are done.");
  check_maps(pictures);
  check_pictures(pictures);
  const auto begin = Clock::now();
  StepResult result;
  const std::unique_ptr<Queue> queue = open_queue(options_.device);
  const CropOptions crops{options_.crop_scale[0], options_.crop_scale[1], options_.flip,
                          options_.rand_augment};
  optimizer_->zero_gradients();
  for (int64_t first = 0; first < part.count; first += options_.micro_batch_size) {
    context.check();
    const int64_t count = std::min(options_.micro_batch_size, part.count - first);
    const auto stream = static_cast<uint64_t>(step_ * options_.batch_size + part.first + first);
    const auto augment_begin = Clock::now();
    const auto some = pictures.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    const at::Tensor images = augment(some, model_.image_height, model_.image_width, crops, model_.mean,
                                      model_.std, mix_seed(options_.seed, kCropStream), stream);
    result.augment_seconds += seconds_since(augment_begin);
    const LossParts parts = micro_loss(uploaded(*queue, images, some, stream), context);
    const double share = static_cast<double>(count) / static_cast<double>(options_.batch_size);
    if (sum_ && first + count == part.count) sum_->last_pass();
    (parts.loss * share).backward();
    result.loss += parts.loss.item<double>() * share;
    result.teacher_seconds += parts.teacher_seconds;
  }
  context.check();
  if (sum_) result.sum_seconds = sum_->finish();
  result.gradient_norm = optimizer_->gradient_norm();
  if (ranks_) {
    // The norm is rank 0's: one of another kind of processor rounds otherwise, and all must do the same.
    const at::Tensor figures =
        at::tensor({result.loss, ranks_->rank() == 0 ? result.gradient_norm : 0.0}, at::kDouble);
    ranks_->sum(figures);
    result.loss = figures[0].item<double>();
    result.gradient_norm = figures[1].item<double>();
  }
  optimizer_->clip(result.gradient_norm, options_.clip_gradient_norm);
  result.learning_rate = learning_rate(step_);
  result.applied = std::isfinite(result.loss) && std::isfinite(result.gradient_norm);
  if (result.applied) optimizer_->update(result.learning_rate);
  result.step = ++step_;
  if (ranks_) ranks_->at_step(step_);
  result.total_seconds = seconds_since(begin);
  return result;
}

EvaluationResult TrainerBase::evaluate(std::span<const Picture> pictures, const RunContext& context) {
  const auto own = static_cast<int64_t>(pictures.size());
  int64_t before = 0, total = own;  // pictures of the ranks before this one, and of all
  if (ranks_) {
    const at::Tensor counts = at::zeros({ranks_->size()}, at::kLong);
    counts[ranks_->rank()] = own;
    ranks_->sum(counts);
    before = counts.narrow(0, 0, ranks_->rank()).sum().item<int64_t>();
    total = counts.sum().item<int64_t>();
  }
  if (total == 0) invalid("pictures must hold at least one; got none.");
  check_maps(pictures);
  check_pictures(pictures);
  const c10::NoGradGuard no_grad;
  const std::unique_ptr<Queue> queue = open_queue(options_.device);
  // Of sums first, then of means.
  EvaluationResult result;
  std::vector<at::Tensor> logits, targets;
  const auto for_fields = [](const auto& body) {
    body(&EvaluationResult::reconstruction_error);
    body(&EvaluationResult::loss);
    body(&EvaluationResult::kendall_tau);
    body(&EvaluationResult::ndcg);
    body(&EvaluationResult::accuracy);
  };
  for (int64_t first = 0; first < own; first += options_.micro_batch_size) {
    context.check();
    const int64_t count = std::min(options_.micro_batch_size, own - first);
    const auto some = pictures.subspan(static_cast<size_t>(first), static_cast<size_t>(count));
    const at::Tensor images =
        evaluation_crops(some, evaluates_whole_pictures() ? EvaluationCrop::kWhole : EvaluationCrop::kCentre,
                         model_.image_height, model_.image_width, model_.mean, model_.std);
    const BatchEvaluation part =
        evaluate_batch(uploaded(*queue, images, some, static_cast<uint64_t>(before + first)), context);
    if (part.logits.defined()) {
      logits.push_back(part.logits);
      targets.push_back(part.targets);
    }
    for_fields([&](auto field) {
      if (part.sums.*field) result.*field = (result.*field).value_or(0) + *(part.sums.*field);
    });
    context.progress(first + count, own);
  }
  if (ranks_) {
    // A rank without pictures knows not which figures there are.
    for_fields([&](auto field) {
      const at::Tensor sum =
          at::tensor({(result.*field).value_or(0), (result.*field).has_value() ? 1.0 : 0.0}, at::kDouble);
      ranks_->sum(sum);
      if (sum[1].item<double>() > 0) result.*field = sum[0].item<double>();
    });
  }
  for_fields([&](auto field) {
    if (result.*field) *(result.*field) /= static_cast<double>(total);
  });
  const int64_t classes = judged_classes();
  if (classes == 0) return result;
  const auto all = [&](std::vector<at::Tensor>& parts) {
    parts.insert(parts.begin(), at::empty({0, classes}, at::kFloat));
    const at::Tensor here = at::cat(parts);
    return ranks_ ? at::cat(ranks_->gather(here)) : here;
  };
  const at::Tensor all_logits = all(logits), all_targets = all(targets);
  judge(all_logits, all_targets, result, context);
  return result;
}

void TrainerBase::save(const std::string& path) const {
  TensorMap state;
  for (const auto& [name, tensor] : model_tensors_) state["model/" + name] = tensor.detach();
  optimizer_->export_state(state);
  for (auto& [name, tensor] : state) {
    tensor = tensor.to(at::kCPU);
    if (all_finite(tensor)) continue;
    throw Error(codes::kDiverged, "After step " + std::to_string(step_) + " the tensor '" + name +
                                      "' has values that are NaN or infinite; it is not saved.");
  }
  std::map<std::string, std::string> header = metadata();
  header["format"] = "ltrp-training-1";
  header["step"] = std::to_string(step_);
  header[kChecksumKey] = checksum(state, header);
  write_safetensors(path, state, header);
}

void TrainerBase::restore(const TensorMap& state, int64_t step) {
  const c10::NoGradGuard no_grad;
  for (const auto& [name, tensor] : state) {
    if (all_finite(tensor)) continue;
    throw Error(codes::kCheckpointContent,
                "The training checkpoint's tensor '" + name + "' has values that are NaN or infinite.");
  }
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
  if (step < 0)
    throw Error(codes::kCheckpointContent,
                "The training checkpoint's step must be at least 0; it is " + std::to_string(step) + ".");
  if (step > options_.steps) {
    invalid("steps must be at least the " + std::to_string(step) + " that are done; got " +
            std::to_string(options_.steps) + ".");
  }
  step_ = step;
}

void TrainerBase::check_same_vit(const std::string& path, const VitConfig& given) const {
  check_same_geometry(path, "encoder", given.encoder, model_.encoder);
  if (given.patch_size == model_.patch_size) return;
  invalid("The patches of '" + path + "' are " + std::to_string(given.patch_size) +
          " pixels wide; the run begins from these weights and must have the same, but asks for " +
          std::to_string(model_.patch_size) + ".");
}

void TrainerBase::begin_from(const TensorMap& tensors, Grid grid) {
  const c10::NoGradGuard no_grad;
  for (auto& [name, tensor] : model_tensors_) {
    const auto found = tensors.find(name);
    if (found == tensors.end()) continue;
    const at::Tensor given = name == "pos_embed" || name == "decoder_pos_embed"
                                 ? resize_positions(found->second, grid, model_.grid())
                                 : found->second;
    tensor.copy_(given);
  }
}

}  // namespace ltrp
