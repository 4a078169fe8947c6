// A model behind a JavaScript object: shared with the calls that use it, given back by dispose() or the
// collector.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "binding/node_api.h"
#include "core/error.h"

namespace ltrp::binding {

template <typename Model>
class ModelHandle {
 public:
  // `bytes`: what the collector should know it holds.
  void set(Napi::BasicEnv env, std::shared_ptr<Model> model, int64_t bytes) {
    model_ = std::move(model);
    bytes_ = bytes;
    Napi::MemoryManagement::AdjustExternalMemory(env, bytes_);
  }

  // For a call: Error(kDisposed) after dispose().
  std::shared_ptr<Model> get(const char* what) const {
    if (!model_)
      throw Error(codes::kDisposed, std::string("This ") + what + " has been disposed; make a new one.");
    return model_;
  }

  // Idempotent. Calls that run keep their share until they end.
  void release(Napi::BasicEnv env) {
    if (!model_) return;
    model_.reset();
    Napi::MemoryManagement::AdjustExternalMemory(env, -bytes_);
  }

 private:
  std::shared_ptr<Model> model_;
  int64_t bytes_ = 0;
};

// Objects of these classes are made by the core only: `construct` hands the model to the constructor through
// an External.
template <typename Model>
Napi::Object construct(Napi::Env env, const Napi::FunctionReference& constructor,
                       std::shared_ptr<Model> model) {
  return constructor.New({Napi::External<std::shared_ptr<Model>>::New(env, &model)});
}

template <typename Model>
std::shared_ptr<Model> constructor_argument(const Napi::CallbackInfo& info, const char* what) {
  if (!info[0].IsExternal()) {
    throw Napi::TypeError::New(info.Env(), std::string(what) + " cannot be constructed; load or create one.");
  }
  return *info[0].As<Napi::External<std::shared_ptr<Model>>>().Data();
}

inline void define_config(Napi::Object object, const char* name, Napi::Value value) {
  object.DefineProperty(Napi::PropertyDescriptor::Value(name, value, napi_enumerable));
}

}  // namespace ltrp::binding
