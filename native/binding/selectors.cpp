#include "binding/selectors.h"

#include <c10/core/InferenceMode.h>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/kinds.h"
#include "binding/results.h"
#include "core/selectors/selectors.h"

namespace ltrp::binding {

Napi::Value score_by_selector(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const at::Tensor images = images_argument(info[2]);
    const Options given(info[3]);
    SelectorOptions options{string_argument(info[1], "selector"),
                            given.integer("patchSize"),
                            given.three("mean"),
                            given.three("std"),
                            given.integer("keep", 0),
                            given.seed(),
                            selector_model(given.get("model"))};
    if (given.has("classes")) options.classes = class_ids(given, "classes");
    const int64_t n = images.size(0), patches = check_selector(images, options).patches();
    if (given.has("keep"))
      check_in(closed(1, static_cast<double>(patches)), "keep", static_cast<double>(options.keep));
    Result result(info.Env(), kept);
    const at::Tensor scores = result.float32("scores", {n, patches});
    result.shape({n, patches});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      check_finite_images(images);
      scores.copy_(selector_scores(images, options, context));
      return {};
    };
  });
}

}  // namespace ltrp::binding
