#include "binding/ranking.h"

#include <ATen/ops/abs.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/max.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string>
#include <utility>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/results.h"
#include "core/device/accelerators.h"
#include "core/engine/agreement.h"
#include "core/engine/masking.h"
#include "core/engine/selection.h"
#include "core/training/losses.h"

namespace ltrp::binding {
namespace {

std::string magnitude(const at::Tensor& values) {
  char text[32];
  std::snprintf(text, sizeof text, "%g", values.detach().abs().max().item<double>());
  return text;
}

// Without the option: the one for which the images have as many patches as there are logits. What is no array
// of logits is refused as such, whatever the size.
int64_t patch_size_option(const Options& options, const at::Tensor& images, int64_t logits) {
  const int64_t side = images.scalar_type() == at::kByte ? 1 : 2;
  const int64_t n = images.size(0), height = images.size(side), width = images.size(side + 1);
  const bool given = options.has("patchSize");
  if (!given && logits == 0) return 1;
  const double pixels = static_cast<double>(n * height * width) / static_cast<double>(logits);
  const int64_t size =
      given ? options.integer("patchSize") : std::max<int64_t>(1, std::llround(std::sqrt(pixels)));
  const bool divides = size >= 1 && height % size == 0 && width % size == 0;
  const std::string sides = std::to_string(width) + " x " + std::to_string(height) + " pixels";
  if (given && !divides) {
    invalid("patchSize must divide both sides of the images, " + sides + "; got " + std::to_string(size) +
            ".");
  }
  if (!given && (!divides || n * (height / size) * (width / size) != logits)) {
    invalid("logits must have a value for every patch; no patch size cuts " + std::to_string(n) +
            " images of " + sides + " into " + std::to_string(logits) + " patches.");
  }
  return size;
}

}  // namespace

SelectionOptions selection_options(const Options& options, int64_t images, int64_t patches) {
  SelectionOptions selection;
  selection.device = choose_device(options.string("device", "cpu"));
  selection.keep =
      options.has("keepRatio") ? kept_patches(patches, options.number("keepRatio")) : options.integer("keep");
  selection.seed = options.seed();
  selection.prior = options.one_of<Prior>("prior", selection.prior);
  selection.compat = options.one_of<SelectionMode>("mode", SelectionMode::kDefault) == SelectionMode::kCompat;
  selection.score_share =
      options.number("scoreShare", selection.compat ? kCompatScoreShare : selection.score_share);
  selection.density_noise = options.floats("densityNoise", {images, patches});
  selection.member_noise = options.floats("memberNoise", {images, patches});
  validate(selection, patches);
  return selection;
}

Napi::Value select_patches(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const at::Tensor images = images_argument(info[1]);
    const Options options(info[3]);
    const int64_t patch_size = patch_size_option(options, images, length_of(info[2]));
    const int64_t n = images.size(0), patches = checked_grid(images, patch_size).patches();
    const at::Tensor logits =
        float_tensor(info[2], "logits", {n, patches}, /*finite=*/true, /*or_minus_infinity=*/true);
    // Logits that are too few may well be those of larger patches; the number to blame is either.
    if (options.has("keep") && !options.has("patchSize") && options.integer("keep") > patches) {
      invalid("keep must be in [1, " + std::to_string(patches) +
              "], the number of patches that logits give each image; got " +
              std::to_string(options.integer("keep")) + ".");
    }
    SelectionOptions selection = selection_options(options, n, patches);
    selection.patch_size = patch_size;
    if (options.has("mean")) selection.mean = options.three("mean");
    if (options.has("std")) selection.std = options.three("std");
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
    const auto loss =
        value_of<RankingLoss>("name", string_argument(info[1], "name"), describe_value(info[1]));
    const auto shape = shape_argument(info[4], "shape", 2, "[lists, items]");
    const at::Tensor predicted = float_tensor(info[2], "predicted", shape);
    const at::Tensor target = float_tensor(info[3], "target", shape);
    const Options options(info[5]);
    RankingLossOptions loss_options;
    if (options.has("k")) loss_options.k = options.integer("k");
    loss_options.noise = options.floats("noise", shape);
    loss_options.seed = options.seed();
    Result result(info.Env(), kept);
    const at::Tensor gradient = result.float32("gradient", shape);
    return [=](const RunContext& context) -> MakeResult {
      // No inference mode: the gradient comes from autograd.
      at::Tensor leaf = predicted;
      leaf.requires_grad_(true);
      const at::Tensor value = ltrp::ranking_loss(loss, leaf, target, loss_options, context);
      context.check();
      value.backward();
      // Where the loss is constant the array's zeros are its gradient.
      if (leaf.grad().defined()) gradient.copy_(leaf.grad());
      const auto result = value.item<double>();
      if (!std::isfinite(result) || !at::isfinite(gradient).all().item<bool>()) {
        throw Error(codes::kInvalidArgument,
                    "The loss or its gradient is not finite: predicted and target must be small enough for "
                    "float32; their largest magnitudes are " +
                        magnitude(predicted) + " and " + magnitude(target) + ".");
      }
      return [loss = result](Napi::Env, Napi::Object kept) -> Napi::Value {
        kept.Set("loss", loss);
        return kept;
      };
    };
  });
}

Napi::Value rank_agreement(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const auto shape = shape_argument(info[3], "shape", 2, "[lists, items]");
    const at::Tensor predicted = float_tensor(info[1], "predicted", shape);
    const at::Tensor target = float_tensor(info[2], "target", shape);
    const int64_t lists = predicted.size(0);
    Result result(info.Env(), kept);
    const at::Tensor tau = result.float64("kendallTau", {lists}), gain = result.float64("ndcg", {lists}),
                     rho = result.float64("spearman", {lists});
    const int64_t k = Options(info[4]).integer("k", shape[1]);
    check_in(closed(1, static_cast<double>(shape[1])), "k", static_cast<double>(k));
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      const int64_t chunk = std::max<int64_t>(1, (int64_t{1} << 18) / predicted.size(1));
      for (int64_t begin = 0; begin < lists; begin += chunk) {
        context.check();
        const int64_t count = std::min(chunk, lists - begin);
        const at::Tensor p = predicted.narrow(0, begin, count), t = target.narrow(0, begin, count);
        tau.narrow(0, begin, count).copy_(kendall_tau(p, t, context));
        gain.narrow(0, begin, count).copy_(ndcg(p, t, k, context));
        rho.narrow(0, begin, count).copy_(spearman(p, t, context));
        context.progress(begin + count, lists);
      }
      return {};
    };
  });
}

}  // namespace ltrp::binding
