#include "binding/mae.h"

#include <ATen/core/Tensor.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/model_config.h"
#include "binding/results.h"
#include "core/engine/leave_one_out.h"
#include "core/engine/score_map.h"
#include "core/model/cost.h"

namespace ltrp::binding {
namespace {

LeaveOneOutOptions score_options(const Options& options) {
  LeaveOneOutOptions scores;
  scores.drop = drop_option(options, Drop::kDecoder);
  scores.metric = metric_option(options, Metric::kL1);
  scores.memory_budget = memory_budget_option(options);
  scores.tolerance = options.number("tolerance", 0, 1, scores.tolerance);
  if (scores.tolerance == 1) refuse(options.path("tolerance") + " must be below 1, but 1 came.");
  return scores;
}

// The teacher's model, which keeps the whole teacher alive.
std::shared_ptr<const MaskedAutoencoder> model_of(std::shared_ptr<const Teacher> teacher) {
  const MaskedAutoencoder* model = &teacher->model();
  return {std::move(teacher), model};
}

// Runs `compute` on a few images at a time and puts what it returns into `out` [images, ...]. Progress counts
// images.
template <typename Compute>
void in_chunks(const at::Tensor& out, int64_t chunk, const RunContext& context, Compute&& compute) {
  const int64_t total = out.size(0);
  for (int64_t begin = 0; begin < total; begin += chunk) {
    context.check();
    const int64_t count = std::min(chunk, total - begin);
    out.narrow(0, begin, count).copy_(compute(begin, count));
    context.progress(begin + count, total);
  }
}

// Images that go through the encoder, and the decoder if it takes part, at a time.
int64_t images_at_a_time(const MaskedAutoencoder& model, int64_t visible, bool decode, int64_t patches) {
  const MaeConfig& config = model.config();
  double flops = transformer_flops(config.encoder, visible + 1);
  if (decode && config.decoder) flops += transformer_flops(*config.decoder, patches + 1);
  return items_between_polls(flops, model.device().type());
}

}  // namespace

Napi::Function Mae::define(Napi::Env env) {
  return DefineClass(
      env, "NativeMae",
      {InstanceMethod("scorePatches", &Mae::score_patches), InstanceMethod("scoreMap", &Mae::score_map),
       InstanceMethod("reconstruct", &Mae::reconstruct), InstanceMethod("encode", &Mae::encode),
       InstanceMethod("dispose", &Mae::dispose)});
}

Mae::Mae(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Mae>(info) {
  auto teacher = constructor_argument<const Teacher>(info, "NativeMae");
  define_config(Value(), "config", to_javascript(info.Env(), teacher->model().config()));
  define_config(Value(), "precision", Napi::String::New(info.Env(), precision_name(teacher->precision())));
  const int64_t bytes = teacher->weight_bytes();
  model_.set(info.Env(), std::move(teacher), bytes);
}

Napi::Value Mae::load(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    std::string path = string_argument(info[1], "path");
    const Options options(info[2], "options");
    const c10::Device device = load_device(options);
    const Precision precision = load_precision(options);
    return [path = std::move(path), device, precision](const RunContext& context) -> MakeResult {
      // Weights for inference only: tensors without autograd's bookkeeping.
      c10::InferenceMode guard;
      MaskedAutoencoder model(load_mae_checkpoint(path), at::kFloat, device);
      context.check();
      auto teacher = std::make_shared<const Teacher>(std::move(model), precision);
      context.check();
      return [teacher = std::move(teacher)](Napi::Env env, Napi::Object) -> Napi::Value {
        return construct(env, Environment::of(env).mae_class, teacher);
      };
    };
  });
}

Napi::Value Mae::score_patches(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const std::shared_ptr<const Teacher> teacher = model_.get("masked autoencoder");
    const at::Tensor images = images_argument(info[1]);
    const int64_t n = images.size(0), patches = teacher->model().grid_of(images).patches();
    const Options options(info[2], "options");
    const LeaveOneOutOptions scores = score_options(options);
    const Masking masking = masking_options(options, n, patches);
    const int64_t count = masking.visible_count;
    Result result(info.Env(), kept);
    const at::Tensor found = result.float32("scores", {n, count}), ids = result.int32("visible", {n, count});
    result.shape({n, count});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      check_finite_images(images);
      const at::Tensor visible = masking.draw(n, patches);
      found.copy_(leave_one_out_scores(*teacher, images, visible, scores, context));
      ids.copy_(visible);
      return {};
    };
  });
}

Napi::Value Mae::score_map(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const std::shared_ptr<const Teacher> teacher = model_.get("masked autoencoder");
    const at::Tensor images = images_argument(info[1]);
    const Options options(info[2], "options");
    ScoreMapOptions map_options;
    map_options.scores = score_options(options);
    const Grid grid = teacher->model().grid_of(images);
    map_options.mask_ratio = mask_ratio_option(options, grid.patches());
    map_options.rounds = options.integer("rounds", 1, 1'000'000, map_options.rounds);
    map_options.seed = options.seed();
    const int64_t n = images.size(0);
    Result result(info.Env(), kept);
    const at::Tensor mean = result.float32("mean", {n, grid.rows, grid.columns}),
                     standard_error = result.float32("standardError", {n, grid.rows, grid.columns});
    result.shape({n, grid.rows, grid.columns});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      check_finite_images(images);
      const ScoreMap map = ltrp::score_map(*teacher, images, map_options, context);
      mean.copy_(map.mean);
      standard_error.copy_(map.standard_error);
      return {};
    };
  });
}

Napi::Value Mae::reconstruct(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const std::shared_ptr<const MaskedAutoencoder> model = model_of(model_.get("masked autoencoder"));
    const at::Tensor images = images_argument(info[1]);
    const int64_t n = images.size(0), patches = model->grid_of(images).patches();
    const Masking masking = masking_options(Options(info[2], "options"), n, patches);
    const int64_t size = model->config().patch_size;
    const std::array<int64_t, 3> shape{n, patches, 3 * size * size};
    Result result(info.Env(), kept);
    const at::Tensor values = result.float32("patches", shape),
                     ids = result.int32("visible", {n, masking.visible_count});
    result.shape({shape[0], shape[1], shape[2]});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      check_finite_images(images);
      const at::Tensor visible = masking.draw(n, patches);
      const int64_t chunk = images_at_a_time(*model, masking.visible_count, /*decode=*/true, patches);
      const auto part = [&](const at::Tensor& all, int64_t begin, int64_t count) {
        return all.narrow(0, begin, count).to(model->device());
      };
      in_chunks(values, chunk, context, [&](int64_t begin, int64_t count) {
        return model->reconstruct(part(images, begin, count), part(visible, begin, count));
      });
      ids.copy_(visible);
      return {};
    };
  });
}

Napi::Value Mae::encode(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const std::shared_ptr<const MaskedAutoencoder> model = model_of(model_.get("masked autoencoder"));
    const at::Tensor images = images_argument(info[1]);
    const int64_t n = images.size(0), patches = model->grid_of(images).patches();
    const Masking masking = masking_options(Options(info[2], "options"), n, patches);
    const std::array<int64_t, 3> shape{n, masking.visible_count + 1, model->config().encoder.dim};
    Result result(info.Env(), kept);
    const at::Tensor values = result.float32("latent", shape),
                     ids = result.int32("visible", {n, masking.visible_count});
    result.shape({shape[0], shape[1], shape[2]});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      check_finite_images(images);
      const at::Tensor visible = masking.draw(n, patches);
      const int64_t chunk = images_at_a_time(*model, masking.visible_count, /*decode=*/false, patches);
      const auto part = [&](const at::Tensor& all, int64_t begin, int64_t count) {
        return all.narrow(0, begin, count).to(model->device());
      };
      in_chunks(values, chunk, context, [&](int64_t begin, int64_t count) {
        return model->encode(part(images, begin, count), part(visible, begin, count));
      });
      ids.copy_(visible);
      return {};
    };
  });
}

}  // namespace ltrp::binding
