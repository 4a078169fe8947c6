#include "binding/ranking.h"

#include <ATen/core/Tensor.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <utility>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/results.h"
#include "core/device.h"
#include "core/engine/agreement.h"
#include "core/engine/selection.h"
#include "core/training/losses.h"

namespace ltrp::binding {

Napi::Value select_patches(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const at::Tensor images = images_argument(info[1]);
    if (images.scalar_type() != at::kFloat) refuse("images must be normalised pixels, a Float32Array.");
    const Options options(info[3], "options");
    SelectionOptions selection;
    selection.device = choose_device(options.string("device", "cpu"));
    selection.patch_size = options.integer("patchSize", 1, 1 << 16);
    const int64_t n = images.size(0), height = images.size(2), width = images.size(3);
    if (height % selection.patch_size != 0 || width % selection.patch_size != 0) {
      refuse("images must have sides that are multiples of options.patchSize " +
             std::to_string(selection.patch_size) + ", but they are " + std::to_string(height) + " x " +
             std::to_string(width) + " (height x width).");
    }
    const int64_t patches = (height / selection.patch_size) * (width / selection.patch_size);
    const at::Tensor logits =
        float_tensor(info[2], "logits", {n, patches}, /*finite=*/true, /*or_minus_infinity=*/true);
    selection.keep = options.integer("keep", 1, patches);
    selection.score_share = options.number("scoreShare", 0, 1);
    selection.seed = options.seed();
    selection.compat = options.one_of<bool>("mode", {{"default", false}, {"compat", true}});
    for (auto [key, noise] : {std::pair{"densityNoise", &selection.density_noise},
                              std::pair{"memberNoise", &selection.member_noise}}) {
      if (options.has(key))
        *noise = float_tensor(options.get(key), options.path(key), {n, patches}, /*finite=*/true);
    }
    Result result(info.Env(), kept);
    const at::Tensor indices = result.int32("indices", {n, selection.keep});
    result.shape({n, selection.keep});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      check_finite_images(images);
      indices.copy_(ltrp::select_patches(images, logits, selection, context));
      return {};
    };
  });
}

Napi::Value ranking_loss(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const RankingLoss loss = parse_ranking_loss(string_argument(info[1], "name"));
    const auto shape = shape_argument(info[4], "shape", 2, "[lists, items]");
    const at::Tensor predicted = float_tensor(info[2], "predicted", shape, /*finite=*/true);
    const at::Tensor target = float_tensor(info[3], "target", shape, /*finite=*/true);
    const Options options(info[5], "options");
    RankingLossOptions loss_options;
    // What k may be depends on the loss: the core says so.
    if (options.has("k")) loss_options.k = options.integer("k", 1, INT32_MAX);
    if (options.has("noise")) {
      loss_options.noise = float_tensor(options.get("noise"), options.path("noise"), shape, /*finite=*/true);
    }
    loss_options.seed = options.seed();
    Result result(info.Env(), kept);
    const at::Tensor gradient = result.float32("gradient", shape);
    return [=](const RunContext& context) -> MakeResult {
      // No inference mode: the gradient comes from autograd.
      at::Tensor leaf = predicted;
      leaf.requires_grad_(true);
      const at::Tensor value = ltrp::ranking_loss(loss, leaf, target, loss_options);
      context.check();
      value.backward();
      // Where the loss is constant the array's zeros are its gradient.
      if (leaf.grad().defined()) gradient.copy_(leaf.grad());
      return [loss = value.item<double>()](Napi::Env, Napi::Object kept) -> Napi::Value {
        kept.Set("loss", loss);
        return kept;
      };
    };
  });
}

Napi::Value rank_agreement(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const auto shape = shape_argument(info[3], "shape", 2, "[lists, items]");
    const at::Tensor predicted = float_tensor(info[1], "predicted", shape, /*finite=*/true);
    const at::Tensor target = float_tensor(info[2], "target", shape, /*finite=*/true);
    const int64_t lists = predicted.size(0);
    Result result(info.Env(), kept);
    const at::Tensor tau = result.float64("kendallTau", {lists}), gain = result.float64("ndcg", {lists});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      const int64_t chunk = std::max<int64_t>(1, (int64_t{1} << 18) / predicted.size(1));
      for (int64_t begin = 0; begin < lists; begin += chunk) {
        context.check();
        const int64_t count = std::min(chunk, lists - begin);
        const at::Tensor p = predicted.narrow(0, begin, count), t = target.narrow(0, begin, count);
        tau.narrow(0, begin, count).copy_(kendall_tau(p, t));
        gain.narrow(0, begin, count).copy_(ndcg(p, t));
        context.progress(begin + count, lists);
      }
      return {};
    };
  });
}

}  // namespace ltrp::binding
