// NativeClassifier of lib/native/binding.ts.
#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>

#include <optional>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/kinds.h"
#include "binding/results.h"
#include "core/engine/inference.h"
#include "core/engine/masking.h"
#include "core/model/classifier.h"
#include "core/selectors/selectors.h"

namespace ltrp::binding {
namespace {

class ClassifierObject : public ModelObject<ClassifierObject, Inference<Classifier>> {
 public:
  using Config = ClassifierConfig;
  using Weights = Classifier;
  using Model = Inference<Classifier>;
  static constexpr const char* kName = "NativeClassifier";
  static constexpr bool kIncomplete = true;  // without a head it embeds
  using ModelObject::ModelObject;

  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, kName,
                       {InstanceMethod("classify", &ClassifierObject::classify),
                        InstanceMethod("embed", &ClassifierObject::embed),
                        InstanceMethod("dispose", &ClassifierObject::dispose)});
  }

 private:
  struct Input {
    std::shared_ptr<const Model> model;
    at::Tensor images;
    std::optional<at::Tensor> keep;           // [n, K] int64
    std::optional<SelectorOptions> selector;  // that chooses what is kept

    // Compute thread.
    at::Tensor read(const TokenReader& reader, const RunContext& context) const {
      c10::InferenceMode guard;
      check_finite_images(images);
      std::optional<at::Tensor> ids = keep;
      if (selector)
        ids = highest(selector_scores(images, *selector, context.without_progress()), selector->keep);
      return model->vit().read(images, ids, reader, context);
    }
  };
  Input input(const Napi::CallbackInfo& info, const Options& options) {
    Input input{model_.get("vision transformer"), images_argument(info[1]), {}, {}};
    const int64_t patches = input.model->model().vit().grid_of(input.images).patches();
    if (options.has("keep") && options.has("keepRatio"))
      invalid("keep (patches) and keepRatio (a share of them) exclude each other; got both.");
    if (options.has("keep")) input.keep = keep_option(options, input.images.size(0), patches);
    if (options.boolean("noPatches", false)) input.keep = at::empty({input.images.size(0), 0}, at::kLong);
    if (options.has("selector") && !options.has("keepRatio"))
      invalid("keepRatio must be given with selector, which chooses that share of the patches; got none.");
    if (options.has("keepRatio")) {
      const ClassifierConfig& config = input.model->config();
      input.selector = SelectorOptions{options.string("selector", "grid"),
                                       config.patch_size,
                                       config.mean,
                                       config.std,
                                       kept_patches(patches, options.number("keepRatio")),
                                       options.seed(),
                                       input.model};
      check_selector(input.images, *input.selector);
      if (input.selector->keep == patches) input.selector.reset();
    }
    return input;
  }

  Napi::Value classify(const Napi::CallbackInfo& info) {
    return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
      const Options options(info[2]);
      const Input input = this->input(info, options);
      const TokenReader reader = input.model->model().logits();
      const int64_t n = input.images.size(0);
      Result result(info.Env(), kept);
      const at::Tensor logits = result.float32("logits", {n, reader.outputs});
      result.shape({n, reader.outputs});
      at::Tensor top;
      if (options.has("topK")) {
        const int64_t k = options.integer("topK");
        check_in(closed(1, static_cast<double>(reader.outputs)), "topK", static_cast<double>(k));
        top = result.int32("top", {n, k});
      }
      return [=](const RunContext& context) -> MakeResult {
        logits.copy_(input.read(reader, context));
        if (top.defined()) top.copy_(top_classes(logits, top.size(1)));
        return {};
      };
    });
  }

  Napi::Value embed(const Napi::CallbackInfo& info) {
    return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
      const Input input = this->input(info, Options(info[2]));
      const TokenReader reader = input.model->model().embedding();
      const int64_t n = input.images.size(0);
      Result result(info.Env(), kept);
      const at::Tensor embeddings = result.float32("embeddings", {n, reader.outputs});
      result.shape({n, reader.outputs});
      return [=](const RunContext& context) -> MakeResult {
        embeddings.copy_(input.read(reader, context));
        return {};
      };
    });
  }
};

const ModelKindOf<ClassifierObject> kind;

}  // namespace
}  // namespace ltrp::binding
