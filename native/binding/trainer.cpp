#include "binding/trainer.h"

#include <ATen/core/Tensor.h>

#include <utility>
#include <variant>
#include <vector>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/model_config.h"
#include "binding/training_options.h"

namespace ltrp::binding {
namespace {

// Copies of the caller's pictures; `pictures` points into `pixels`.
struct PictureBatch {
  std::vector<at::Tensor> pixels;
  std::vector<Picture> pictures;
};

PictureBatch pictures_argument(const Napi::Value& value) {
  if (!value.IsArray()) refuse("pictures must be an array, but " + describe_value(value) + " came.");
  const auto list = value.As<Napi::Array>();
  PictureBatch batch;
  for (uint32_t i = 0; i < list.Length(); ++i) {
    const Options picture(list.Get(i), "pictures[" + std::to_string(i) + "]");
    const int64_t height = picture.integer("height", 1, INT32_MAX),
                  width = picture.integer("width", 1, INT32_MAX);
    int64_t bytes = 0;
    if (__builtin_mul_overflow(height * width, 3, &bytes)) refuse("A picture is larger than memory can be.");
    batch.pixels.push_back(byte_tensor(picture.get("pixels"), picture.path("pixels"), bytes));
    batch.pictures.push_back({batch.pixels.back().const_data_ptr<uint8_t>(), height, width});
  }
  return batch;
}

MakeResult made(std::unique_ptr<Trainer> trainer) {
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
  if (const PretrainOptions* options = run->trainer->pretrain_options()) {
    batch_size_ = options->training.batch_size;
    bytes = training_bytes(options->model.encoder);
    if (options->model.decoder) bytes += training_bytes(*options->model.decoder);
    define_config(Value(), "options", to_javascript(info.Env(), *options));
  } else if (const RankerTrainingOptions* options = run->trainer->ranker_options()) {
    batch_size_ = options->training.batch_size;
    bytes = training_bytes(options->model.encoder);
    define_config(Value(), "options", to_javascript(info.Env(), *options));
  }
  run_.set(info.Env(), std::move(run), bytes);
}

Napi::Value TrainerObject::create(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    return [options = training_options(info[1])](const RunContext&) -> MakeResult {
      if (const auto* pretrain = std::get_if<PretrainOptions>(&options))
        return made(create_pretrainer(*pretrain));
      return made(create_ranker_trainer(std::get<RankerTrainingOptions>(options)));
    };
  });
}

Napi::Value TrainerObject::resume(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    std::string path = string_argument(info[1], "path");
    const at::Device device = load_device(Options(info[2], "options"));
    return [path = std::move(path), device](const RunContext&) -> MakeResult {
      return made(resume_trainer(path, device));
    };
  });
}

Napi::Value TrainerObject::train_step(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    auto run = run_.get("trainer");
    PictureBatch batch = pictures_argument(info[1]);
    if (static_cast<int64_t>(batch.pictures.size()) != batch_size_) {
      refuse("pictures must hold exactly batchSize = " + std::to_string(batch_size_) + " pictures, but " +
             std::to_string(batch.pictures.size()) + " came.");
    }
    return [run, batch = std::move(batch)](const RunContext& context) -> MakeResult {
      const StepResult result = run->trainer->train_step(batch.pictures, context);
      *run->step = run->trainer->step();
      return [result](Napi::Env env, Napi::Object) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        object.Set("step", static_cast<double>(result.step));
        object.Set("loss", result.loss);
        object.Set("learningRate", result.learning_rate);
        object.Set("gradientNorm", result.gradient_norm);
        object.Set("augmentSeconds", result.augment_seconds);
        object.Set("teacherSeconds", result.teacher_seconds);
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
    if (batch.pictures.empty()) refuse("pictures must hold at least one picture.");
    return [run, batch = std::move(batch)](const RunContext& context) -> MakeResult {
      const EvaluationResult result = run->trainer->evaluate(batch.pictures, context);
      return [result](Napi::Env env, Napi::Object) -> Napi::Value {
        Napi::Object object = Napi::Object::New(env);
        object.Set("reconstructionError", number_or_null(env, result.reconstruction_error));
        object.Set("loss", number_or_null(env, result.loss));
        object.Set("kendallTau", number_or_null(env, result.kendall_tau));
        object.Set("ndcg", number_or_null(env, result.ndcg));
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
    // The type comes as a bare string; read like an option so that the sentence names what is allowed.
    Napi::Object options = Napi::Object::New(info.Env());
    options.Set("type", info[2]);
    const StoredType type = stored_type(Options(options, "exportModel"));
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
