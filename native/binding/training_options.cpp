#include "binding/training_options.h"

#include "binding/model_config.h"
#include "core/error.h"

namespace ltrp::binding {
namespace {

constexpr int64_t kMaxSteps = int64_t{1} << 40;

const char* name_of(RankingLoss loss) {
  switch (loss) {
    case RankingLoss::kPointWise:
      return "pointWise";
    case RankingLoss::kListNet:
      return "listNet";
    case RankingLoss::kListMle:
      return "listMle";
    case RankingLoss::kRankNet:
      return "rankNet";
    case RankingLoss::kFocusedRank:
      return "focusedRank";
  }
  return "";
}

TrainingOptions common_options(const Options& options) {
  TrainingOptions training;
  training.batch_size = options.integer("batchSize", 1, 1 << 20);
  training.micro_batch_size = options.integer("microBatchSize", 1, training.batch_size);
  training.steps = options.integer("steps", 1, kMaxSteps);
  training.warmup_steps = options.integer("warmupSteps", 0, training.steps);
  training.learning_rate = options.number("learningRate", 0, 1e6);
  training.weight_decay = options.number("weightDecay", 0, 1e6);
  training.beta1 = options.number("beta1", 0, 1);
  training.beta2 = options.number("beta2", 0, 1);
  if (training.beta1 == 1 || training.beta2 == 1) refuse("options.beta1 and options.beta2 must be below 1.");
  if (!options.get("clipGradientNorm").IsNull()) {
    training.clip_gradient_norm = options.number("clipGradientNorm", 0, 1e30);
    if (*training.clip_gradient_norm == 0) {
      refuse("options.clipGradientNorm must be above 0, or null for no clipping.");
    }
  }
  training.precision = options.one_of<TrainingPrecision>(
      "precision", {{"float32", TrainingPrecision::kFloat32}, {"bfloat16", TrainingPrecision::kBFloat16}});
  training.seed = options.seed();
  const std::vector<double> scale = options.numbers("cropScale", 2);
  if (!(scale[0] > 0 && scale[0] <= scale[1] && scale[1] <= 1)) {
    refuse(
        "options.cropScale must be [least, most] with 0 < least <= most <= 1, shares of the picture's area.");
  }
  training.crop_scale_min = scale[0];
  training.crop_scale_max = scale[1];
  training.flip = options.boolean("flip");
  return training;
}

void set_common(Napi::Env env, Napi::Object object, const TrainingOptions& training) {
  object.Set("batchSize", static_cast<double>(training.batch_size));
  object.Set("microBatchSize", static_cast<double>(training.micro_batch_size));
  object.Set("steps", static_cast<double>(training.steps));
  object.Set("warmupSteps", static_cast<double>(training.warmup_steps));
  object.Set("learningRate", training.learning_rate);
  object.Set("weightDecay", training.weight_decay);
  object.Set("beta1", training.beta1);
  object.Set("beta2", training.beta2);
  object.Set("clipGradientNorm", training.clip_gradient_norm
                                     ? Napi::Value(Napi::Number::New(env, *training.clip_gradient_norm))
                                     : env.Null());
  object.Set("precision", training.precision == TrainingPrecision::kFloat32 ? "float32" : "bfloat16");
  object.Set("seed", static_cast<double>(training.seed));
  Napi::Array scale = Napi::Array::New(env, 2);
  scale[0u] = Napi::Number::New(env, training.crop_scale_min);
  scale[1u] = Napi::Number::New(env, training.crop_scale_max);
  object.Set("cropScale", scale);
  object.Set("flip", training.flip);
  object.Set("maskRatio", training.mask_ratio);
}

}  // namespace

std::variant<PretrainOptions, RankerTrainingOptions> training_options(const Napi::Value& value) {
  const Options options(value, "options");
  const at::Device device = load_device(options);
  const bool pretrain = options.one_of<bool>("kind", {{"pretrain", true}, {"ranker", false}});
  if (pretrain) {
    PretrainOptions result;
    result.training = common_options(options);
    result.training.device = device;
    result.model = mae_config(options.get("model"), options.path("model"));
    if (!result.model.decoder) refuse("options.model.decoder must be given: pre-training reconstructs.");
    result.training.mask_ratio = mask_ratio_option(options, result.model.grid().patches());
    return result;
  }
  RankerTrainingOptions result;
  result.training = common_options(options);
  result.training.device = device;
  result.model = ranker_config(options.get("model"), options.path("model"));
  result.training.mask_ratio = mask_ratio_option(options, result.model.grid().patches());
  result.teacher = options.string("teacher");
  result.loss = parse_ranking_loss(options.string("loss"));
  if (!options.get("lossK").IsNull()) result.loss_k = options.integer("lossK", 1, INT32_MAX);
  result.scores.drop = drop_option(options);
  result.scores.metric = metric_option(options);
  result.scores.memory_budget = memory_budget_option(options);
  result.input = options.one_of<RankerInput>(
      "input", {{"visible", RankerInput::kVisible}, {"full", RankerInput::kFull}});
  result.start = options.one_of<RankerStart>(
      "start", {{"random", RankerStart::kRandom}, {"teacher", RankerStart::kTeacher}});
  return result;
}

Napi::Object to_javascript(Napi::Env env, const PretrainOptions& options) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("kind", "pretrain");
  set_common(env, object, options.training);
  object.Set("model", to_javascript(env, options.model));
  return object;
}

Napi::Object to_javascript(Napi::Env env, const RankerTrainingOptions& options) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("kind", "ranker");
  set_common(env, object, options.training);
  object.Set("model", to_javascript(env, options.model));
  object.Set("teacher", options.teacher);
  object.Set("loss", name_of(options.loss));
  object.Set("lossK", options.loss_k
                          ? Napi::Value(Napi::Number::New(env, static_cast<double>(*options.loss_k)))
                          : env.Null());
  object.Set("drop", name_of(options.scores.drop));
  object.Set("metric", name_of(options.scores.metric));
  object.Set("input", options.input == RankerInput::kVisible ? "visible" : "full");
  object.Set("start", options.start == RankerStart::kRandom ? "random" : "teacher");
  object.Set("memoryBudget", static_cast<double>(options.scores.memory_budget));
  return object;
}

}  // namespace ltrp::binding
