// The kinds of models that JavaScript can load. Each is a file of this folder that adds its class here
// (ModelKindOf); loading, conversion and the names of kinds go by the list.
#pragma once

#include <c10/core/InferenceMode.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "binding/call.h"
#include "binding/model_config.h"
#include "binding/model_handle.h"
#include "binding/results.h"
#include "core/selectors/selectors.h"

namespace ltrp::binding {

struct LoadSettings {
  c10::Device device;
  Precision precision;
  CheckpointOverrides overrides;
};

struct ConversionSettings {
  std::string output;
  StoredType type;
  IfThere if_there;
};

class AnyKind {
 public:
  virtual ~AnyKind() = default;
  virtual std::string word() const = 0;
  virtual Napi::Function define(Napi::Env env) const = 0;
  // Compute thread.
  virtual MakeResult load(const std::string& path, const LoadSettings& settings,
                          const RunContext& context) const = 0;
  // NativeWeights; of a model that lacks a part, too.
  virtual MakeResult read(const std::string& path, const CheckpointOverrides& overrides,
                          const RunContext& context) const = 0;
  // The model behind an object of define()'s class, for selectors.
  virtual SelectorModel opened(Napi::Object model) const = 0;
  // read() with the number of tensors instead of them.
  virtual MakeResult convert(const std::string& path, const CheckpointOverrides& overrides,
                             const ConversionSettings& settings, const RunContext& context) const = 0;

 protected:
  AnyKind();
};

// By word.
std::vector<const AnyKind*> kinds();
// The model behind the option `model`, an object that loadModel() made; none without it.
SelectorModel selector_model(const Napi::Value& value);
// Error(kInvalidArgument) for a word that is none of theirs.
const AnyKind& kind_argument(const Napi::Value& value, const std::string& name);

// loadModel(job, kind, path, options), readWeights(job, path, options), convertCheckpoint(job, input, output,
// options) of lib/native/binding.ts.
Napi::Value load_model(const Napi::CallbackInfo& info);
Napi::Value read_weights(const Napi::CallbackInfo& info);
Napi::Value convert_checkpoint(const Napi::CallbackInfo& info);

Napi::Object summary(Napi::Env env, const std::string& naming, const std::vector<std::string>& notes,
                     Napi::Object config);
Napi::Object tensors_object(Napi::Env env, const TensorMap& tensors);

// What the class of a kind of models inherits: the model, `config`, `precision` and dispose(). `Class` says
// which configuration it has (Config), what is made of its weights (Weights), and what that becomes for
// inference (Model), made of it, a precision and a RunContext.
template <typename Class, typename Model>
class ModelObject : public Napi::ObjectWrap<Class> {
 public:
  static constexpr bool kIncomplete = false;  // whether a file without all of the model's parts will do
  explicit ModelObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Class>(info) {
    auto model = constructor_argument<const Model>(info, Class::kName);
    const Napi::Env env = info.Env();
    define_config(this->Value(), "config", to_javascript(env, model->config()));
    define_config(this->Value(), "precision", Napi::String::New(env, name_of(model->precision())));
    const int64_t bytes = model->weight_bytes();
    model_.set(env, std::move(model), bytes);
  }
  void Finalize(Napi::BasicEnv env) override { model_.release(env); }
  void dispose(const Napi::CallbackInfo& info) { model_.release(info.Env()); }
  std::shared_ptr<const Model> shared() const { return model_.get("model"); }

 protected:
  ModelHandle<const Model> model_;
};

template <typename Class>
class ModelKindOf final : public AnyKind {
  using Config = typename Class::Config;

 public:
  std::string word() const override { return Config::kind.word; }
  Napi::Function define(Napi::Env env) const override { return Class::define(env); }
  MakeResult load(const std::string& path, const LoadSettings& settings,
                  const RunContext& context) const override {
    // Weights for inference only: tensors without autograd's bookkeeping.
    c10::InferenceMode guard;
    CheckpointOverrides overrides = settings.overrides;
    overrides.incomplete = Class::kIncomplete;
    auto checkpoint = load_checkpoint<Config>(path, overrides, context);
    typename Class::Weights weights(checkpoint, at::kFloat, settings.device, context);
    checkpoint.tensors.clear();
    context.check();
    auto model =
        std::make_shared<const typename Class::Model>(std::move(weights), settings.precision, context);
    context.check();
    return [word = word(), model = std::move(model), notes = std::move(checkpoint.notes)](
               Napi::Env env, Napi::Object) -> Napi::Value {
      const Napi::Value made = construct(env, Environment::of(env).model_classes.at(word), model);
      made.As<Napi::Object>().Set("notes", to_javascript(env, notes));
      return made;
    };
  }
  SelectorModel opened(Napi::Object model) const override { return Class::Unwrap(model)->shared(); }
  MakeResult read(const std::string& path, const CheckpointOverrides& overrides,
                  const RunContext& context) const override {
    auto checkpoint = load_checkpoint<Config>(path, overrides, context);
    for (auto& [name, tensor] : checkpoint.tensors) {
      context.check();
      tensor = for_javascript(tensor);
    }
    return [checkpoint = std::move(checkpoint)](Napi::Env env, Napi::Object) -> Napi::Value {
      const Napi::Object tensors = tensors_object(env, checkpoint.tensors);
      Napi::Object object =
          summary(env, checkpoint.naming, checkpoint.notes, to_javascript(env, checkpoint.config));
      object.Set("tensors", tensors);
      return object;
    };
  }
  MakeResult convert(const std::string& path, const CheckpointOverrides& overrides,
                     const ConversionSettings& settings, const RunContext& context) const override {
    auto checkpoint = load_checkpoint<Config>(path, overrides, context);
    save_checkpoint(settings.output, checkpoint.config, checkpoint.tensors, settings.type, settings.if_there,
                    context);
    const size_t tensors = checkpoint.tensors.size();
    checkpoint.tensors.clear();
    return [tensors, checkpoint = std::move(checkpoint)](Napi::Env env, Napi::Object) -> Napi::Value {
      Napi::Object object =
          summary(env, checkpoint.naming, checkpoint.notes, to_javascript(env, checkpoint.config));
      object.Set("tensors", static_cast<double>(tensors));
      return object;
    };
  }
};

}  // namespace ltrp::binding
