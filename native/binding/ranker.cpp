// NativeRanker of lib/native/binding.ts.
#include <c10/core/InferenceMode.h>

#include <utility>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/kinds.h"
#include "binding/ranking.h"
#include "binding/results.h"
#include "core/engine/inference_ranker.h"
#include "core/engine/prior.h"

namespace ltrp::binding {
namespace {

class Ranker : public ModelObject<Ranker, InferenceRanker> {
 public:
  using Config = RankerConfig;
  using Weights = PatchRanker;
  using Model = InferenceRanker;
  static constexpr const char* kName = "NativeRanker";
  using ModelObject::ModelObject;

  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, kName,
                       {InstanceMethod("rank", &Ranker::rank), InstanceMethod("dispose", &Ranker::dispose)});
  }

 private:
  Napi::Value rank(const Napi::CallbackInfo& info);
};

const ModelKindOf<Ranker> kind;

Napi::Value Ranker::rank(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    auto model = model_.get("ranker");
    const at::Tensor images = images_argument(info[1]);
    const Grid grid = model->grid_of(images);
    const int64_t n = images.size(0), patches = grid.patches();
    const Options options(info[2]);
    const auto prior = options.one_of<Prior>("prior", Prior::kNone);
    std::optional<at::Tensor> visible;
    if (options.has("visible")) {
      visible = visible_option(options, n, patches, /*all_allowed=*/true);
      // Ascending and distinct, so all of them means: everything, in order.
      if (visible->size(1) == patches) visible.reset();
    }
    std::optional<SelectionOptions> select;
    if (options.has("select")) {
      select = selection_options(Options(options.get("select")), n, patches);
      const RankerConfig& config = model->config();
      select->patch_size = config.patch_size;
      select->mean = config.mean;
      select->std = config.std;
    }
    Result result(info.Env(), kept);
    const at::Tensor logits = result.float32("logits", {n, patches});
    result.shape({n, patches});
    const at::Tensor indices = select ? result.int32("indices", {n, select->keep}) : at::Tensor();
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      check_finite_images(images);
      logits.copy_(with_prior(model->logits(images, visible, context).to(at::kCPU), grid, prior, context));
      if (select) indices.copy_(ltrp::select_patches(images, logits, *select, context));
      return {};
    };
  });
}

}  // namespace
}  // namespace ltrp::binding
