#include "binding/ranker.h"

#include <c10/core/InferenceMode.h>

#include <utility>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/model_config.h"
#include "binding/results.h"

namespace ltrp::binding {

Napi::Function Ranker::define(Napi::Env env) {
  return DefineClass(env, "NativeRanker",
                     {InstanceMethod("rank", &Ranker::rank), InstanceMethod("dispose", &Ranker::dispose)});
}

Ranker::Ranker(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Ranker>(info) {
  auto model = constructor_argument<const FrozenRanker>(info, "NativeRanker");
  define_config(Value(), "config", to_javascript(info.Env(), model->config()));
  define_config(Value(), "precision", Napi::String::New(info.Env(), precision_name(model->precision())));
  const int64_t bytes = model->weight_bytes();
  model_.set(info.Env(), std::move(model), bytes);
}

Napi::Value Ranker::load(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    std::string path = string_argument(info[1], "path");
    const Options options(info[2], "options");
    const c10::Device device = load_device(options);
    const Precision precision = load_precision(options);
    return [path = std::move(path), device, precision](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      PatchRanker loaded(load_ranker_checkpoint(path), at::kFloat, device);
      context.check();
      auto model = std::make_shared<const FrozenRanker>(std::move(loaded), precision);
      context.check();
      return [model = std::move(model)](Napi::Env env, Napi::Object) -> Napi::Value {
        return construct(env, Environment::of(env).ranker_class, model);
      };
    };
  });
}

Napi::Value Ranker::rank(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    auto model = model_.get("ranker");
    const at::Tensor images = images_argument(info[1]);
    const int64_t n = images.size(0), patches = model->grid_of(images).patches();
    const Options options(info[2], "options");
    std::optional<at::Tensor> visible;
    if (options.has("visible")) {
      visible =
          visible_argument(options.get("visible"), options.path("visible"), n, patches, /*all_allowed=*/true);
      // Ascending and distinct, so all of them means: everything, in order.
      if (visible->size(1) == patches) visible.reset();
    }
    Result result(info.Env(), kept);
    const at::Tensor logits = result.float32("logits", {n, patches});
    result.shape({n, patches});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      check_finite_images(images);
      logits.copy_(model->logits(images, visible, context));
      return {};
    };
  });
}

}  // namespace ltrp::binding
