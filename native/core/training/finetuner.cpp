#include "core/training/finetuner.h"

#include <ATen/ATen.h>
#include <c10/core/GradMode.h>

#include <cmath>
#include <set>

#include "core/check.h"
#include "core/engine/average_precision.h"
#include "core/engine/masking.h"
#include "core/random.h"
#include "core/training/layer_decay.h"
#include "core/training/mixing.h"
#include "core/training/options_json.h"

namespace ltrp {
namespace {

// Streams of random numbers out of one seed, beside those of the base.
constexpr uint64_t kEraseStream = 11, kMixStream = 12, kDropStream = 13, kKeepStream = 14, kSelectStream = 15,
                   kDecoderStream = 16;

int64_t kept_of(int64_t patches, double share, const char* name) {
  if (std::llround(static_cast<double>(patches) * share) < 1) {
    invalid(std::string(name) + " must keep at least one of the " + std::to_string(patches) +
            " patches; got " + text_of(share) + ", which keeps none.");
  }
  return kept_patches(patches, share);
}

}  // namespace

Finetuner::Finetuner(const FinetuneOptions& options, const RunContext& context)
    : TrainerBase((validate(options), options.training), options.model),
      options_(options),
      model_(Classifier::initialized(options.model, options.training.seed, options.training.device)) {
  check_labels();
  const int64_t patches = options.model.grid().patches();
  kept_of(patches, options.keep_ratio, "keepRatio");
  if (options.keep_random) kept_of(patches, (*options.keep_random)[0], "keepRandom");
  if (options.mixup > 0 || options.cutmix > 0) {
    for (const auto& [name, size] : {std::pair{"batchSize", options.training.batch_size},
                                     {"microBatchSize", options.training.micro_batch_size}}) {
      if (size % kMixedTogether != 0) {
        invalid(std::string(name) + " must be even with mixup or cutmix, which mix pictures in pairs; got " +
                std::to_string(size) + ".");
      }
    }
  }
  open_selector(context);
  start(model_.tensors(), {&model_.vit().blocks()}, [&](const std::string& name, const at::Tensor& tensor) {
    return layer_decay_rule(name, tensor, options.model.encoder.depth, options.layer_decay);
  });
}

void Finetuner::check_labels() const {
  const auto classes = static_cast<double>(options_.model.classes);
  check_in(closed(2, 1 << 20), "model.classes", classes);
  if (!many()) {
    if (!options_.unseen.empty()) invalid("unseen must be left out with labels 'one'.");
    return;
  }
  if (options_.label_smoothing != 0) {
    invalid(
        "labelSmoothing must be 0 with labels 'many', which have no classes to share a target with; got " +
        text_of(options_.label_smoothing) + ".");
  }
  std::set<int64_t> ids;
  for (const int64_t id : options_.unseen) {
    check_in(half_open(0, classes), "unseen", static_cast<double>(id));
    if (!ids.insert(id).second)
      invalid("unseen must name each category once; it has " + std::to_string(id) + " twice.");
  }
  if (ids.size() == static_cast<size_t>(options_.model.classes))
    invalid("unseen must leave at least one category that is seen; it names all of them.");
}

void Finetuner::open_selector(const RunContext& context) {
  const Selector& selector = selector_named(options_.selector);
  selector_config_ = options_.model;
  const std::string& path = options_.selector_model;
  if (selector.needs == Needs::kNothing) {
    if (!path.empty())
      invalid("selectorModel must be left out: the selector '" + options_.selector + "' asks no model.");
    return;
  }
  if (path.empty())
    invalid("selectorModel must name the model that the selector '" + options_.selector +
            "' asks; got none.");
  const at::Device device = options_.training.device;
  const auto autoencoder = [&] {
    auto from = load_checkpoint<MaeConfig>(path, {.incomplete = true}, context);
    selector_config_ = from.config;
    selector_model_ = std::make_shared<const Teacher>(MaskedAutoencoder(from, at::kFloat, device, context),
                                                      Precision::kFloat32);
  };
  const auto classifier = [&] {
    auto from = load_checkpoint<ClassifierConfig>(path, {}, context);
    selector_config_ = from.config;
    selector_model_ = std::make_shared<const OpenClassifier>(Classifier(from, at::kFloat, device, context),
                                                             Precision::kFloat32);
  };
  if (selector.needs == Needs::kRanker) {
    auto from = load_checkpoint<RankerConfig>(path, {}, context);
    selector_config_ = from.config;
    selector_model_ = std::make_shared<const InferenceRanker>(PatchRanker(from, at::kFloat, device, context),
                                                              Precision::kFloat32);
  } else if (selector.needs == Needs::kAutoencoder) {
    autoencoder();
  } else if (selector.needs == Needs::kClassifier || selector.needs == Needs::kClsClassifier) {
    classifier();
  } else {
    try {
      classifier();
    } catch (const Error& error) {
      if (std::string(error.code()) != codes::kCheckpointContent) throw;
      try {
        autoencoder();
      } catch (const Error& other) {
        if (std::string(other.code()) != codes::kCheckpointContent) throw;
        throw Error(codes::kCheckpointContent, "The selector '" + options_.selector +
                                                   "' asks a classifier or a masked autoencoder. " +
                                                   error.what() + " " + other.what());
      }
    }
  }
  // What the first pictures would be refused for, before there is a run.
  const ClassifierConfig& model = options_.model;
  check_selector(at::empty({1, model.image_height, model.image_width, 3}, at::kByte), selector_options(1));
}

void Finetuner::begin(const RunContext& context) {
  if (options_.init.empty()) return;
  // An encoder, a masked autoencoder's too, with a head where the file has one.
  auto from = load_checkpoint<ClassifierConfig>(options_.init, {.incomplete = true}, context);
  check_same_vit(options_.init, from.config);
  const auto is_head = [](const std::string& name) { return name.starts_with("head."); };
  bool same_head = true;
  for (const auto& [name, tensor] : model_.tensors()) {
    const auto found = from.tensors.find(name);
    if (is_head(name)) {
      same_head = same_head && found != from.tensors.end() && found->second.sizes() == tensor.sizes();
    } else if (found == from.tensors.end() && !name.starts_with("fc_norm.")) {
      throw Error(codes::kCheckpointContent, "'" + options_.init + "' has no tensor '" + name + "'.");
    }
  }
  // A head for other classes begins anew, all of it.
  if (!same_head) std::erase_if(from.tensors, [&](const auto& entry) { return is_head(entry.first); });
  begin_from(from.tensors, from.config.grid());
}

int64_t Finetuner::together() const { return options_.mixup > 0 || options_.cutmix > 0 ? kMixedTogether : 1; }

double Finetuner::learning_rate(int64_t done) const {
  return decayed_learning_rate(training(), options_.min_learning_rate, done);
}

void Finetuner::check_pictures(std::span<const Picture> pictures) const {
  const auto classes = static_cast<double>(options_.model.classes);
  for (size_t i = 0; i < pictures.size(); ++i) {
    if (many()) {
      const std::string name = "pictures[" + std::to_string(i) + "].labels";
      if (!pictures[i].labels) invalid(name + " must list the picture's categories; got none.");
      for (const int64_t id : *pictures[i].labels)
        check_in(half_open(0, classes), name, static_cast<double>(id));
      continue;
    }
    const std::string name = "pictures[" + std::to_string(i) + "].label";
    if (pictures[i].label < 0)
      invalid(name + " must say which of the " + std::to_string(options_.model.classes) +
              " classes the picture has; got none.");
    check_in(half_open(0, classes), name, static_cast<double>(pictures[i].label));
  }
}

int64_t Finetuner::kept_at(uint64_t number) const {
  double share = options_.keep_ratio;
  if (options_.keep_random) {
    const auto [least, most] = *options_.keep_random;
    const uint64_t step = number / static_cast<uint64_t>(training().batch_size);
    at::Generator generator = generator_for(mix_seed(training().seed, kKeepStream), step);
    share = at::empty({}, at::kDouble).uniform_(least, most, generator).item<double>();
  }
  return kept_patches(options_.model.grid().patches(), share);
}

SelectorOptions Finetuner::selector_options(int64_t keep) const {
  SelectorOptions options;
  options.selector = options_.selector;
  options.patch_size = options_.model.patch_size;
  options.mean = selector_config_.mean;
  options.std = selector_config_.std;
  options.keep = keep;
  options.model = selector_model_;
  options.model_name = "selectorModel";
  return options;
}

std::optional<at::Tensor> Finetuner::chosen(const at::Tensor& images, int64_t keep, uint64_t seed,
                                            uint64_t first, const RunContext& context) const {
  if (keep == options_.model.grid().patches()) return std::nullopt;
  const c10::NoGradGuard no_grad;
  SelectorOptions options = selector_options(keep);
  options.seed = seed;
  options.first_image = static_cast<int64_t>(first);
  const at::Tensor scores =
      selector_scores(renormalized(images, options_.model, selector_config_).to(at::kCPU).contiguous(),
                      options, context.without_progress());
  // A copy, free of inference mode, which losses may save for their backward pass.
  return highest(scores, keep).to(images.device(), at::kLong, /*non_blocking=*/false, /*copy=*/true);
}

TrainerBase::LossParts Finetuner::micro_loss(const MicroBatch& batch, const RunContext& context) {
  const uint64_t seed = training().seed;
  at::Tensor images = batch.images;
  at::Tensor targets = targets_of(batch.pictures, options_.label_smoothing);
  erase_boxes(images, options_.erase, mix_seed(seed, kEraseStream), batch.first);
  const uint64_t step = batch.first / static_cast<uint64_t>(training().batch_size);
  const auto mix = draw_mix(options_.mixup, options_.cutmix, images.size(2), images.size(3),
                            mix_seed(seed, kMixStream), step);
  if (mix) {
    images = mixed_images(images, *mix, kMixedTogether);
    targets = mixed_targets(targets, *mix, kMixedTogether);
  }
  const int64_t kept = kept_at(batch.first);
  const std::optional<at::Tensor> keep =
      chosen(images, kept, mix_seed(seed, kSelectStream), batch.first, context);
  at::Tensor scales = drop_path_scales(options_.drop_path, options_.model.encoder.depth, images.size(0),
                                       mix_seed(seed, kDropStream), batch.first);
  if (scales.defined()) scales = scales.to(images.device());
  const std::optional<MlDecoderDropout> dropout = dropout_of(batch, kept);
  at::Tensor logits;
  {
    const AutocastScope autocast(autocasts(), images.device().type());
    logits = model_.forward(images, keep, scales, dropout ? &*dropout : nullptr);
  }
  return {loss_of(logits.to(at::kFloat), targets.to(images.device())), 0};
}

at::Tensor Finetuner::targets_of(std::span<const Picture> pictures, double smoothing) const {
  const int64_t classes = options_.model.classes;
  if (many()) {
    std::vector<std::vector<int64_t>> labels;
    for (const Picture& picture : pictures) labels.push_back(*picture.labels);
    return label_targets(labels, classes);
  }
  std::vector<int64_t> labels;
  for (const Picture& picture : pictures) labels.push_back(picture.label);
  return smoothed_targets(at::tensor(labels, at::kLong), classes, smoothing);
}

at::Tensor Finetuner::loss_of(const at::Tensor& logits, const at::Tensor& targets) const {
  if (!many()) return soft_cross_entropy(logits, targets);
  return asymmetric_loss(logits, targets, static_cast<double>(logits.size(0)), options_.asymmetric);
}

std::optional<MlDecoderDropout> Finetuner::dropout_of(const MicroBatch& batch, int64_t kept) const {
  const ClassifierConfig& model = options_.model;
  if (model.pooling != Pooling::kQueries) return std::nullopt;
  MlDecoderDropout dropout =
      decoder_dropout(MlDecoder::kDropout, model.queries, model.query_dim, kept + 1, batch.images.size(0),
                      mix_seed(training().seed, kDecoderStream), batch.first);
  for (at::Tensor* part :
       {&dropout.queries, &dropout.attention, &dropout.attended, &dropout.hidden, &dropout.output})
    *part = part->to(batch.images.device());
  return dropout;
}

TrainerBase::BatchEvaluation Finetuner::evaluate_batch(const MicroBatch& batch, const RunContext& context) {
  const at::Tensor targets = targets_of(batch.pictures, 0);
  const int64_t patches = options_.model.grid().patches();
  const std::optional<at::Tensor> keep = chosen(batch.images, kept_patches(patches, options_.keep_ratio),
                                                evaluation_seed(), batch.first, context);
  const at::Tensor logits = model_.forward(batch.images, keep).to(at::kCPU, at::kFloat);
  BatchEvaluation result;
  result.sums.loss = loss_of(logits, targets).item<double>() * static_cast<double>(logits.size(0));
  if (many()) {
    result.logits = logits;
    result.targets = targets;
  } else {
    result.sums.accuracy =
        static_cast<double>(logits.argmax(-1).eq(targets.argmax(-1)).sum().item<int64_t>());
  }
  return result;
}

void Finetuner::judge(const at::Tensor& logits, const at::Tensor& targets, EvaluationResult& result,
                      const RunContext& context) const {
  const at::Tensor precision = average_precision(logits, targets, context.without_progress());
  const auto* values = precision.const_data_ptr<double>();
  result.average_precision.assign(values, values + precision.numel());
  const at::Tensor unseen = at::zeros({precision.numel()}, at::kBool);
  for (const int64_t id : options_.unseen) unseen[id].fill_(true);
  // NaN of nothing.
  const auto mean_of = [&](const at::Tensor& which) {
    return precision.masked_select(which.logical_and(precision.isnan().logical_not())).mean().item<double>();
  };
  result.mean_average_precision = mean_of(at::ones_like(unseen));
  if (options_.unseen.empty()) return;
  result.seen_average_precision = mean_of(unseen.logical_not());
  result.unseen_average_precision = mean_of(unseen);
}

std::map<std::string, std::string> Finetuner::metadata() const {
  return {{"kind", "finetune"}, {"options", to_json(options_)}};
}

void Finetuner::export_model(const std::string& path, StoredType type) const {
  save_checkpoint(path, options_.model, weights(), type);
}

}  // namespace ltrp
