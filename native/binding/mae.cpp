// NativeMae of lib/native/binding.ts.
#include <ATen/core/Tensor.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <array>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/kinds.h"
#include "binding/model_config.h"
#include "binding/pictures.h"
#include "binding/results.h"
#include "core/engine/finite.h"
#include "core/engine/leave_one_out.h"
#include "core/engine/score_map.h"
#include "core/engine/teacher.h"
#include "core/model/cost.h"
#include "core/training/options_json.h"
#include "core/training/score_store.h"

namespace ltrp::binding {
namespace {

LeaveOneOutOptions score_options(const Options& options) {
  LeaveOneOutOptions scores;
  scores.drop = options.one_of<Drop>("drop", scores.drop);
  scores.metric = options.one_of<Metric>("metric", scores.metric);
  scores.memory_budget = options.integer("memoryBudget", scores.memory_budget);
  scores.tolerance = options.number("tolerance", scores.tolerance);
  return scores;
}

// The teacher's model, which keeps the whole teacher alive.
std::shared_ptr<const MaskedAutoencoder> model_of(std::shared_ptr<const Teacher> teacher) {
  const MaskedAutoencoder* model = &teacher->model();
  return {std::move(teacher), model};
}

// Runs `compute` on a few images at a time and puts what it returns into `out` [images, ...]. Progress counts
// images; `what` names the values where they are not finite.
template <typename Compute>
void in_chunks(const at::Tensor& out, int64_t chunk, const char* what, const RunContext& context,
               Compute&& compute) {
  const int64_t total = out.size(0);
  for (int64_t begin = 0; begin < total; begin += chunk) {
    context.check();
    const int64_t count = std::min(chunk, total - begin);
    const at::Tensor part = out.narrow(0, begin, count);
    part.copy_(compute(begin, count));
    check_finite_result(part, what, begin);
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

class Mae : public ModelObject<Mae, Teacher> {
 public:
  using Config = MaeConfig;
  using Weights = MaskedAutoencoder;
  using Model = Teacher;
  static constexpr const char* kName = "NativeMae";
  using ModelObject::ModelObject;

  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, kName,
        {InstanceMethod("scorePatches", &Mae::score_patches), InstanceMethod("scoreMap", &Mae::score_map),
         InstanceMethod("storeScores", &Mae::store_scores), InstanceMethod("reconstruct", &Mae::reconstruct),
         InstanceMethod("encode", &Mae::encode), InstanceMethod("dispose", &Mae::dispose)});
  }

 private:
  Napi::Value score_patches(const Napi::CallbackInfo& info);
  Napi::Value score_map(const Napi::CallbackInfo& info);
  Napi::Value store_scores(const Napi::CallbackInfo& info);
  Napi::Value reconstruct(const Napi::CallbackInfo& info);
  Napi::Value encode(const Napi::CallbackInfo& info);
};

const ModelKindOf<Mae> kind;

Napi::Value Mae::score_patches(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const std::shared_ptr<const Teacher> teacher = model_.get("masked autoencoder");
    const at::Tensor images = images_argument(info[1]);
    const int64_t n = images.size(0), patches = teacher->model().grid_of(images).patches();
    const Options options(info[2]);
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
    const Options options(info[2]);
    ScoreMapOptions map_options;
    map_options.scores = score_options(options);
    const Grid grid = teacher->model().grid_of(images);
    map_options.mask_ratio = options.number("maskRatio", map_options.mask_ratio);
    map_options.rounds = options.integer("rounds", map_options.rounds);
    map_options.seed = options.seed();
    map_options.surprise = options.boolean("surprise", map_options.surprise);
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

Napi::Value Mae::store_scores(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    const std::shared_ptr<const Teacher> teacher = model_.get("masked autoencoder");
    PictureBatch batch = pictures_argument(info[1]);
    std::vector<int64_t> numbers;
    for (uint32_t i = 0; i < batch.pictures.size(); ++i) {
      const Options picture(info[1].As<Napi::Array>().Get(i), "pictures[" + std::to_string(i) + "]");
      numbers.push_back(picture.integer("number"));
    }
    const Options target(info[2]);
    ScoreStoreOptions options;
    read_options(target.string("options"), options);
    options.scores.memory_budget = target.integer("memoryBudget", options.scores.memory_budget);
    std::map<std::string, std::string> metadata;
    const auto given = target.get("metadata").As<Napi::Object>();
    const Napi::Array names = given.GetPropertyNames();
    for (uint32_t i = 0; i < names.Length(); ++i) {
      const std::string name = names.Get(i).ToString();
      metadata[name] = string_argument(given.Get(name), "metadata." + name);
    }
    return
        [=, path = target.string("path"), batch = std::move(batch)](const RunContext& context) -> MakeResult {
          c10::InferenceMode guard;
          write_score_shard(path, score_crops(*teacher, batch.pictures, numbers, options, context), metadata,
                            context);
          return [](Napi::Env env, Napi::Object) -> Napi::Value { return env.Undefined(); };
        };
  });
}

Napi::Value Mae::reconstruct(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const std::shared_ptr<const MaskedAutoencoder> model = model_of(model_.get("masked autoencoder"));
    const at::Tensor images = images_argument(info[1]);
    const int64_t n = images.size(0), patches = model->grid_of(images).patches();
    const Masking masking = masking_options(Options(info[2]), n, patches);
    const int64_t size = model->config().patch_size;
    const std::array<int64_t, 3> shape{n, patches, 3 * size * size};
    Result result(info.Env(), kept);
    const at::Tensor values = result.float32("patches", shape),
                     ids = result.int32("visible", {n, masking.visible_count});
    result.shape({shape[0], shape[1], shape[2]});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      check_finite_images(images);
      const c10::DeviceGuard on_device(model->device());
      const at::Tensor visible = masking.draw(n, patches);
      const int64_t chunk = images_at_a_time(*model, masking.visible_count, /*decode=*/true, patches);
      const auto part = [&](const at::Tensor& all, int64_t begin, int64_t count) {
        return all.narrow(0, begin, count).to(model->device());
      };
      in_chunks(values, chunk, "predicted patches", context, [&](int64_t begin, int64_t count) {
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
    const Masking masking = masking_options(Options(info[2]), n, patches);
    const std::array<int64_t, 3> shape{n, masking.visible_count + 1, model->config().encoder.dim};
    Result result(info.Env(), kept);
    const at::Tensor values = result.float32("latent", shape),
                     ids = result.int32("visible", {n, masking.visible_count});
    result.shape({shape[0], shape[1], shape[2]});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      check_finite_images(images);
      const c10::DeviceGuard on_device(model->device());
      const at::Tensor visible = masking.draw(n, patches);
      const int64_t chunk = images_at_a_time(*model, masking.visible_count, /*decode=*/false, patches);
      const auto part = [&](const at::Tensor& all, int64_t begin, int64_t count) {
        return all.narrow(0, begin, count).to(model->device());
      };
      in_chunks(values, chunk, "latents", context, [&](int64_t begin, int64_t count) {
        return model->encode(part(images, begin, count), part(visible, begin, count));
      });
      ids.copy_(visible);
      return {};
    };
  });
}

}  // namespace
}  // namespace ltrp::binding
