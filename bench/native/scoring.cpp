// `scores` and `rank`: plain LibTorch, timed; `reference`: both in float64; `check`: the loop against it.
#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>

#include "core/engine/leave_one_out.h"
#include "core/engine/masking.h"
#include "core/random.h"
#include "geometries.h"
#include "session.h"
#include "timing.h"

namespace ltrp::bench {

namespace {

// Scores of the first `variants` visible patches, float64 throughout.
at::Tensor exact_scores(const MaskedAutoencoder& model, const at::Tensor& images, const at::Tensor& visible,
                        int64_t variants) {
  const MaskedAutoencoder wide({model.config(), model.tensors(), "ltrp"}, at::kDouble);
  return leave_one_out_scores(wide, images.to(at::kDouble), visible, {}, {}).slice(1, 0, variants);
}

at::Tensor exact_logits(const PatchRanker& ranker, const at::Tensor& images) {
  const PatchRanker wide({ranker.config(), ranker.tensors(), "ltrp"}, at::kDouble);
  return wide.forward(images.to(at::kDouble));
}

int64_t visible_patches(const Session& session) { return session.first_visible(1).size(1); }

}  // namespace

Json scores(Session& session, const Json& request) {
  const MaskedAutoencoder& model = session.loaded_mae();
  const int64_t count = integer(request, "images", 1, 1, 1 << 20);
  const int64_t batch = integer(request, "batch", 1, 1, count);
  const at::Tensor images = session.first_images(count), visible = session.first_visible(count);
  const int64_t variants =
      integer(request, "variants", visible_patches(session), 1, visible_patches(session));
  const LoopPrecision precision = parse_loop_precision(request.value("precision", "float32"));
  model.grid_of(images);
  std::vector<at::Tensor> parts;
  const double seconds = seconds_of([&] {
    for (int64_t first = 0; first < count; first += batch) {
      const int64_t last = std::min(count, first + batch);
      parts.push_back(session.loop->scores(images.slice(0, first, last), visible.slice(0, first, last),
                                           variants, precision));
    }
  });
  return {{"ms", seconds * 1e3}, {"scores", nested(at::cat(parts))}};
}

Json rank(Session& session, const Json& request) {
  const PatchRanker& ranker = session.loaded_ranker();
  const int64_t count = integer(request, "images", 1, 1, 1 << 20);
  const int64_t batch = integer(request, "batch", count, 1, count);
  const at::Tensor images = session.first_images(count);
  const LoopPrecision precision = parse_loop_precision(request.value("precision", "float32"));
  std::vector<at::Tensor> parts;
  const double seconds = seconds_of([&] {
    const at::NoGradGuard no_grad;
    const LoopAutocast autocast(precision);
    for (int64_t first = 0; first < count; first += batch) {
      parts.push_back(ranker.forward(images.slice(0, first, std::min(count, first + batch))));
    }
  });
  return {{"ms", seconds * 1e3}, {"logits", nested(at::cat(parts))}};
}

Json reference(Session& session, const Json& request) {
  const at::NoGradGuard no_grad;
  Json reply = Json::object();
  const int64_t count = integer(request, "images", 0, 0, 1 << 20);
  if (session.mae && count > 0) {
    const int64_t variants =
        integer(request, "variants", visible_patches(session), 1, visible_patches(session));
    reply["scores"] = nested(
        exact_scores(*session.mae, session.first_images(count), session.first_visible(count), variants));
  }
  const int64_t ranked = integer(request, "rankerImages", 0, 0, 1 << 20);
  if (session.ranker && ranked > 0) {
    reply["logits"] = nested(exact_logits(*session.ranker, session.first_images(ranked)));
  }
  return reply;
}

Json check(Session&, const Json&) {
  const at::NoGradGuard no_grad;
  const MaskedAutoencoder model = MaskedAutoencoder::initialized(mae_geometry({{"geometry", "tiny"}}), 1);
  const Grid grid = model.config().grid();
  at::Generator generator = generator_for(1, 3);
  const at::Tensor images =
      at::empty({2, 3, model.config().image_height, model.config().image_width}, at::kFloat)
          .normal_(0, 1, generator);
  const int64_t count = visible_count(grid.patches(), 0.6);
  const at::Tensor visible = visible_from_noise(masking_noise(2, grid.patches(), 1), count);
  const at::Tensor exact = exact_scores(model, images, visible, count);
  const AuthorsLoop loop(model);
  Json errors;
  for (const char* name : {"float32", "bfloat16"}) {
    const at::Tensor found = loop.scores(images, visible, count, parse_loop_precision(name)).to(at::kDouble);
    errors[name] = ((found - exact).abs() / exact).mean().item<double>();
  }
  // Autocast must change something, or it was not on.
  if (errors["float32"] > 1e-4 || errors["bfloat16"] < 1e-4) {
    throw Error(codes::kInternal, "The authors' loop is off by " + errors.dump() + " against float64.");
  }
  return {{"meanRelativeError", errors}};
}

}  // namespace ltrp::bench
