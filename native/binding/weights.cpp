#include "binding/weights.h"

#include <utility>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/model_config.h"
#include "binding/results.h"
#include "core/checkpoint/checkpoint.h"

namespace ltrp::binding {
namespace {

Napi::Array shape_of(Napi::Env env, const at::Tensor& tensor) {
  Napi::Array shape = Napi::Array::New(env, static_cast<size_t>(tensor.dim()));
  uint32_t i = 0;
  for (int64_t size : tensor.sizes()) shape[i++] = Napi::Number::New(env, static_cast<double>(size));
  return shape;
}

template <typename Checkpoint>
MakeResult weights(Checkpoint checkpoint, const RunContext& context) {
  for (auto& [name, tensor] : checkpoint.tensors) {
    context.check();
    tensor = for_javascript(tensor);
  }
  return [checkpoint = std::move(checkpoint)](Napi::Env env, Napi::Object) -> Napi::Value {
    Napi::Object tensors = Napi::Object::New(env);
    for (const auto& [name, tensor] : checkpoint.tensors) {
      Napi::HandleScope scope(env);
      Napi::Object entry = Napi::Object::New(env);
      entry.Set("data", typed_array(env, tensor));
      entry.Set("shape", shape_of(env, tensor));
      tensors.Set(name, entry);
    }
    Napi::Object object = Napi::Object::New(env);
    object.Set("naming", checkpoint.naming);
    object.Set("config", to_javascript(env, checkpoint.config));
    object.Set("tensors", tensors);
    return object;
  };
}

}  // namespace

Napi::Value read_weights(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    std::string path = string_argument(info[1], "path");
    const Options options(info[2], "options");
    const bool mae = options.one_of<bool>("kind", {{"mae", true}, {"ranker", false}});
    return [=, path = std::move(path)](const RunContext& context) -> MakeResult {
      if (mae) return weights(load_mae_checkpoint(path, /*require_decoder=*/false), context);
      return weights(load_ranker_checkpoint(path), context);
    };
  });
}

}  // namespace ltrp::binding
