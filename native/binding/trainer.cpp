#include "binding/trainer.h"

#include <utility>
#include <vector>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/model_config.h"
#include "binding/pictures.h"
#include "binding/ranks.h"
#include "core/training/options_json.h"
#include "core/training/trainer.h"

namespace ltrp::binding {
namespace {

MakeResult made(std::unique_ptr<Trainer> trainer, const std::shared_ptr<Ranks>& ranks) {
  if (ranks) trainer->join(ranks);
  auto run = std::make_shared<TrainingRun>();
  *run->step = trainer->step();
  run->trainer = std::move(trainer);
  return [run = std::move(run)](Napi::Env env, Napi::Object) -> Napi::Value {
    return construct(env, Environment::of(env).trainer_class, run);
  };
}

// Weights, gradients and the optimizer's two moments.
int64_t training_bytes(const TransformerConfig& config) {
  return 16 * config.depth * (4 * config.dim * config.dim + 2 * config.dim * config.mlp_dim);
}

Napi::Value number_or_null(Napi::Env env, const std::optional<double>& value) {
  return value ? Napi::Value(Napi::Number::New(env, *value)) : env.Null();
}

Napi::Value numbers_or_null(Napi::Env env, const std::vector<double>& values) {
  if (values.empty()) return env.Null();
  Napi::Array array = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); ++i) array[i] = Napi::Number::New(env, values[i]);
  return array;
}

}  // namespace

Napi::Function TrainerObject::define(Napi::Env env) {
  return DefineClass(
      env, "NativeTrainer",
      {InstanceMethod("trainStep", &TrainerObject::train_step),
       InstanceMethod("evaluate", &TrainerObject::evaluate), InstanceMethod("save", &TrainerObject::save),
       InstanceMethod("exportModel", &TrainerObject::export_model),
       InstanceMethod("dispose", &TrainerObject::dispose),
       InstanceAccessor("step", &TrainerObject::step, nullptr, napi_enumerable)});
}

TrainerObject::TrainerObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<TrainerObject>(info) {
  auto run = constructor_argument<TrainingRun>(info, "NativeTrainer");
  step_ = run->step;
  int64_t bytes = 0;
  const auto describe = [&](const auto& options) {
    bytes = training_bytes(options.model.encoder);
    define_config(Value(), "options", Napi::String::New(info.Env(), to_json(options)));
    define_config(Value(), "model", to_javascript(info.Env(), options.model));
  };
  if (const PretrainOptions* options = run->trainer->pretrain_options()) {
    describe(*options);
    if (options->model.decoder) bytes += training_bytes(*options->model.decoder);
  } else if (const RankerTrainingOptions* options = run->trainer->ranker_options()) {
    describe(*options);
  } else if (const FinetuneOptions* options = run->trainer->finetune_options()) {
    describe(*options);
  }
  const BatchPart part = run->trainer->part();
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair[0u] = Napi::Number::New(info.Env(), static_cast<double>(part.first));
  pair[1u] = Napi::Number::New(info.Env(), static_cast<double>(part.count));
  define_config(Value(), "part", pair);
  run_.set(info.Env(), std::move(run), bytes);
}

Napi::Value TrainerObject::create(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    const Options given(info[1]);
    const auto ranks = joined_ranks();
    const auto begun = [&](auto options, auto begin) -> Work {
      options.model = model_config<decltype(options.model)>(given.get("model"), "model");
      read_options(given.string("options"), options);
      options.training.device = load_device(given);
      return [=](const RunContext& context) -> MakeResult { return made(begin(options, context), ranks); };
    };
    const std::string kind = given.string("kind");
    if (kind == MaeConfig::kind.word) return begun(PretrainOptions(), create_pretrainer);
    if (kind == RankerConfig::kind.word) return begun(RankerTrainingOptions(), create_ranker_trainer);
    if (kind == ClassifierConfig::kind.word) return begun(FinetuneOptions(), create_finetuner);
    invalid("kind must be one of 'classifier', 'mae', 'ranker'; got " + describe_value(given.get("kind")) +
            ".");
  });
}

Napi::Value TrainerObject::resume(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    std::string path = string_argument(info[1], "path");
    const Options options(info[2]);
    const at::Device device = load_device(options);
    return [path = std::move(path), device, changes = options.string("changes"),
            ranks = joined_ranks()](const RunContext& context) -> MakeResult {
      return made(resume_trainer(path, device, changes, context), ranks);
    };
  });
}

Napi::Value TrainerObject::train_step(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    auto run = run_.get("trainer");
    PictureBatch batch = pictures_argument(info[1]);
    return [run, batch = std::move(batch)](const RunContext& context) -> MakeResult {
      const StepResult result = run->trainer->train_step(batch.pictures, context);
      *run->step = run->trainer->step();
      return [result](Napi::Env env, Napi::Object) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        object.Set("step", static_cast<double>(result.step));
        object.Set("applied", result.applied);
        object.Set("loss", result.loss);
        object.Set("learningRate", result.learning_rate);
        object.Set("gradientNorm", result.gradient_norm);
        object.Set("augmentSeconds", result.augment_seconds);
        object.Set("teacherSeconds", result.teacher_seconds);
        object.Set("sumSeconds", result.sum_seconds);
        object.Set("totalSeconds", result.total_seconds);
        return object;
      };
    };
  });
}

Napi::Value TrainerObject::evaluate(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    auto run = run_.get("trainer");
    PictureBatch batch = pictures_argument(info[1]);
    return [run, batch = std::move(batch)](const RunContext& context) -> MakeResult {
      const EvaluationResult result = run->trainer->evaluate(batch.pictures, context);
      return [result](Napi::Env env, Napi::Object) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        object.Set("reconstructionError", number_or_null(env, result.reconstruction_error));
        object.Set("loss", number_or_null(env, result.loss));
        object.Set("kendallTau", number_or_null(env, result.kendall_tau));
        object.Set("ndcg", number_or_null(env, result.ndcg));
        object.Set("accuracy", number_or_null(env, result.accuracy));
        object.Set("meanAveragePrecision", number_or_null(env, result.mean_average_precision));
        object.Set("seenAveragePrecision", number_or_null(env, result.seen_average_precision));
        object.Set("unseenAveragePrecision", number_or_null(env, result.unseen_average_precision));
        object.Set("averagePrecision", numbers_or_null(env, result.average_precision));
        return object;
      };
    };
  });
}

Napi::Value TrainerObject::save(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    auto run = run_.get("trainer");
    return [run, path = string_argument(info[1], "path")](const RunContext&) -> MakeResult {
      run->trainer->save(path);
      return [](Napi::Env env, Napi::Object) -> Napi::Value { return env.Undefined(); };
    };
  });
}

Napi::Value TrainerObject::export_model(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    auto run = run_.get("trainer");
    std::string path = string_argument(info[1], "path");
    const auto type = value_of<StoredType>("type", string_argument(info[2], "type"), describe_value(info[2]));
    return [run, type, path = std::move(path)](const RunContext&) -> MakeResult {
      run->trainer->export_model(path, type);
      return [](Napi::Env env, Napi::Object) -> Napi::Value { return env.Undefined(); };
    };
  });
}

Napi::Value TrainerObject::step(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(step_->load()));
}

}  // namespace ltrp::binding
