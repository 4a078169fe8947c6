#include "core/training/options_json.h"

#include <nlohmann/json.hpp>

#include "core/checkpoint/config_json.h"
#include "core/error.h"

namespace ltrp {

namespace {

using nlohmann::json;

constexpr std::pair<RankingLoss, const char*> kLosses[] = {{RankingLoss::kPointWise, "pointWise"},
                                                           {RankingLoss::kListNet, "listNet"},
                                                           {RankingLoss::kListMle, "listMle"},
                                                           {RankingLoss::kRankNet, "rankNet"},
                                                           {RankingLoss::kFocusedRank, "focusedRank"}};
constexpr std::pair<Drop, const char*> kDrops[] = {
    {Drop::kDecoder, "decoder"}, {Drop::kEncoder, "encoder"}, {Drop::kBoth, "both"}};
constexpr std::pair<Metric, const char*> kMetrics[] = {
    {Metric::kL1, "l1"}, {Metric::kL2, "l2"}, {Metric::kPsnr, "psnr"}, {Metric::kSsim, "ssim"}};
constexpr std::pair<RankerInput, const char*> kInputs[] = {{RankerInput::kVisible, "visible"},
                                                           {RankerInput::kFull, "full"}};
constexpr std::pair<RankerStart, const char*> kStarts[] = {{RankerStart::kRandom, "random"},
                                                           {RankerStart::kTeacher, "teacher"}};
constexpr std::pair<TrainingPrecision, const char*> kPrecisions[] = {
    {TrainingPrecision::kFloat32, "float32"}, {TrainingPrecision::kBFloat16, "bfloat16"}};

template <typename Value, size_t count>
std::string name_of(Value value, const std::pair<Value, const char*> (&names)[count]) {
  for (const auto& [candidate, name] : names) {
    if (candidate == value) return name;
  }
  throw Error(codes::kInternal, "An option has a value without a name.");
}

template <typename Value, size_t count>
Value value_of(const std::string& name, const std::pair<Value, const char*> (&names)[count]) {
  for (const auto& [value, candidate] : names) {
    if (name == candidate) return value;
  }
  throw Error(codes::kCheckpointContent,
              "The training checkpoint's options name an unknown value '" + name + "'.");
}

template <typename Value>
json optional_to_json(const std::optional<Value>& value) {
  return value ? json(*value) : json(nullptr);
}

template <typename Value>
std::optional<Value> optional_from_json(const json& value) {
  if (value.is_null()) return std::nullopt;
  return value.get<Value>();
}

json training_to_json(const TrainingOptions& o) {
  return {{"batchSize", o.batch_size},
          {"microBatchSize", o.micro_batch_size},
          {"steps", o.steps},
          {"warmupSteps", o.warmup_steps},
          {"learningRate", o.learning_rate},
          {"weightDecay", o.weight_decay},
          {"beta1", o.beta1},
          {"beta2", o.beta2},
          {"clipGradientNorm", optional_to_json(o.clip_gradient_norm)},
          {"precision", name_of(o.precision, kPrecisions)},
          {"seed", o.seed},
          {"cropScale", {o.crop_scale_min, o.crop_scale_max}},
          {"flip", o.flip},
          {"maskRatio", o.mask_ratio}};
}

TrainingOptions training_from_json(const json& j) {
  TrainingOptions o;
  j.at("batchSize").get_to(o.batch_size);
  j.at("microBatchSize").get_to(o.micro_batch_size);
  j.at("steps").get_to(o.steps);
  j.at("warmupSteps").get_to(o.warmup_steps);
  j.at("learningRate").get_to(o.learning_rate);
  j.at("weightDecay").get_to(o.weight_decay);
  j.at("beta1").get_to(o.beta1);
  j.at("beta2").get_to(o.beta2);
  o.clip_gradient_norm = optional_from_json<double>(j.at("clipGradientNorm"));
  o.precision = value_of(j.at("precision").get<std::string>(), kPrecisions);
  j.at("seed").get_to(o.seed);
  j.at("cropScale").at(0).get_to(o.crop_scale_min);
  j.at("cropScale").at(1).get_to(o.crop_scale_max);
  j.at("flip").get_to(o.flip);
  j.at("maskRatio").get_to(o.mask_ratio);
  return o;
}

// nlohmann's exceptions become ours.
template <typename Function>
auto translated(Function function) {
  try {
    return function();
  } catch (const json::exception& error) {
    throw Error(codes::kCheckpointContent,
                std::string("The training checkpoint's options cannot be read: ") + error.what() + ".");
  }
}

}  // namespace

json to_json(const PretrainOptions& options) {
  json result = training_to_json(options.training);
  result["model"] = config_to_json(options.model);
  return result;
}

json to_json(const RankerTrainingOptions& options) {
  json result = training_to_json(options.training);
  result["model"] = config_to_json(options.model);
  result["teacher"] = options.teacher;
  result["loss"] = name_of(options.loss, kLosses);
  result["lossK"] = optional_to_json(options.loss_k);
  result["drop"] = name_of(options.scores.drop, kDrops);
  result["metric"] = name_of(options.scores.metric, kMetrics);
  result["input"] = name_of(options.input, kInputs);
  result["start"] = name_of(options.start, kStarts);
  result["memoryBudget"] = options.scores.memory_budget;
  return result;
}

PretrainOptions pretrain_options_from_json(const json& j) {
  return translated([&] {
    return PretrainOptions{training_from_json(j), config_from_json<MaeConfig>(j.at("model"))};
  });
}

RankerTrainingOptions ranker_options_from_json(const json& j) {
  return translated([&] {
    RankerTrainingOptions o;
    o.training = training_from_json(j);
    o.model = config_from_json<RankerConfig>(j.at("model"));
    j.at("teacher").get_to(o.teacher);
    o.loss = value_of(j.at("loss").get<std::string>(), kLosses);
    o.loss_k = optional_from_json<int64_t>(j.at("lossK"));
    o.scores.drop = value_of(j.at("drop").get<std::string>(), kDrops);
    o.scores.metric = value_of(j.at("metric").get<std::string>(), kMetrics);
    o.input = value_of(j.at("input").get<std::string>(), kInputs);
    o.start = value_of(j.at("start").get<std::string>(), kStarts);
    j.at("memoryBudget").get_to(o.scores.memory_budget);
    return o;
  });
}

}  // namespace ltrp
