// Selectors: what else could say which patches to keep (docs/method.md, 9). Each is a file of this folder and
// a line in the table.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "core/engine/inference_ranker.h"
#include "core/engine/teacher.h"
#include "core/engine/vit_steps.h"
#include "core/model/classifier.h"
#include "core/run_context.h"
#include "core/weights/config.h"

namespace ltrp {

using OpenClassifier = Inference<Classifier>;
// The opened model that a selector asks.
using SelectorModel =
    std::variant<std::monostate, std::shared_ptr<const Teacher>, std::shared_ptr<const InferenceRanker>,
                 std::shared_ptr<const OpenClassifier>>;

// Which model a selector asks.
enum class Needs {
  kNothing,
  kAutoencoder,
  kRanker,
  kEncoder,        // a masked autoencoder or a classifier
  kBareEncoder,    // a masked autoencoder or a vision transformer without a head
  kClassifier,     // with a linear head
  kClsClassifier,  // with a head that reads the CLS token
};

// Pictures for selectors.
struct SelectorOptions {
  std::string selector;
  int64_t patch_size = 16;
  std::array<double, 3> mean, std;  // that float images were normalised with
  int64_t keep = 0;                 // patches that will be kept: in [1, L], or 0 where nobody says
  uint64_t seed = 0;
  SelectorModel model = {};
  const char* model_name = "model";        // the caller's, for messages
  std::optional<at::Tensor> classes = {};  // [n] int64
  int64_t first_image = 0;                 // number of the first image, which noise depends on
};

// One image.
struct SelectorInput {
  const SelectorOptions& options;
  Grid grid;
  int64_t image = 0;  // its number, which noise depends on
  at::Tensor given;   // [1, 3, H, W] normalised, or bytes [1, H, W, 3]
  const RunContext& context;

  at::Tensor pixels() const;  // [3, H, W] float64 in [0, 1], red, green, blue
  // Normalised patches [L, p * p * 3] float32, values ordered (row, column, channel).
  at::Tensor patches() const;
  VitSteps steps() const;        // of the model, an autoencoder or a classifier
  at::Tensor on_device() const;  // `given` where the model is
};

// Scores [L] of an image's patches in raster order; the larger ones are kept.
at::Tensor centre_scores(const SelectorInput& input);
at::Tensor cls_attention_scores(const SelectorInput& input);
at::Tensor contrast_scores(const SelectorInput& input);
at::Tensor dpc_knn_scores(const SelectorInput& input);
at::Tensor evit_scores(const SelectorInput& input);
at::Tensor gradient_scores(const SelectorInput& input);
at::Tensor grid_scores(const SelectorInput& input);
at::Tensor k_means_scores(const SelectorInput& input);
at::Tensor random_scores(const SelectorInput& input);
at::Tensor rollout_scores(const SelectorInput& input);
at::Tensor tome_scores(const SelectorInput& input);
at::Tensor variance_scores(const SelectorInput& input);

// Scores [n, L] of all images together, where there is work for all of them.
at::Tensor grad_cam_scores(const at::Tensor& images, const SelectorOptions& options,
                           const RunContext& context);
at::Tensor ranker_scores(const at::Tensor& images, const SelectorOptions& options, const RunContext& context);
at::Tensor ranker_diverse_scores(const at::Tensor& images, const SelectorOptions& options,
                                 const RunContext& context);
at::Tensor teacher_scores(const at::Tensor& images, const SelectorOptions& options,
                          const RunContext& context);

struct Selector {
  const char* name;
  // One of these.
  at::Tensor (*score)(const SelectorInput&);
  at::Tensor (*score_all)(const at::Tensor&, const SelectorOptions&, const RunContext&) = nullptr;
  Needs needs = Needs::kNothing;
  bool needs_keep = false;
};
inline constexpr Selector kSelectors[] = {
    {"centre", centre_scores},
    {"cls-attention", cls_attention_scores, nullptr, Needs::kClassifier},
    {"contrast", contrast_scores},
    {"dpc-knn", dpc_knn_scores},
    {"evit", evit_scores, nullptr, Needs::kClsClassifier, true},
    {"grad-cam", nullptr, grad_cam_scores, Needs::kClassifier},
    {"gradient", gradient_scores},
    {"grid", grid_scores, nullptr, Needs::kNothing, true},
    {"k-means", k_means_scores, nullptr, Needs::kNothing, true},
    {"mae-attention", cls_attention_scores, nullptr, Needs::kBareEncoder},
    {"random", random_scores},
    {"ranker", nullptr, ranker_scores, Needs::kRanker},
    {"ranker-diverse", nullptr, ranker_diverse_scores, Needs::kRanker, true},
    {"rollout", rollout_scores, nullptr, Needs::kEncoder},
    {"teacher", nullptr, teacher_scores, Needs::kAutoencoder},
    {"tome", tome_scores, nullptr, Needs::kEncoder, true},
    {"variance", variance_scores},
};

// Error(kInvalidArgument) naming what there is.
const Selector& selector_named(const std::string& name);

// The grid of images [n, 3, H, W] float32, normalised, or bytes [n, H, W, 3], for these options.
// Error(kInvalidArgument) for options that cannot be, a model of another kind among them.
Grid check_selector(const at::Tensor& images, const SelectorOptions& options);

// Scores [n, L] float32. Progress counts images, of a teacher its variants. Error(kCancelled).
// Error(kNotFinite).
at::Tensor selector_scores(const at::Tensor& images, const SelectorOptions& options,
                           const RunContext& context);

// The `keep` highest scores [n, L] of each image, in raster order; of equal ones the lower first: [n, keep]
// int64.
at::Tensor highest(const at::Tensor& scores, int64_t keep);

// Calls body(image) for every image: one on each thread, or one after the other where the model's device has
// a queue of its own. Progress counts images.
void for_each_image(const SelectorOptions& options, int64_t images, const RunContext& context,
                    const std::function<void(int64_t)>& body);

// Whether a model's head reads the mean of the patches.
bool pools_patches(const SelectorModel& model);

// Scores in (0, 1] that rank patches in `order` [L] int64, the best first.
at::Tensor scores_of_order(const at::Tensor& order);

}  // namespace ltrp
