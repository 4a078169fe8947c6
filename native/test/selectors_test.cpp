// Selectors against the authors' and our goldens.
#include "core/selectors/selectors.h"

#include <ATen/ATen.h>

#include "checkpoint_support.h"
#include "core/checkpoint/safetensors.h"
#include "core/engine/density_peaks.h"
#include "core/engine/score_map.h"
#include "core/engine/selection.h"
#include "core/selectors/k_means.h"
#include "kernels/pixels.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

SelectorOptions options_of(const char* selector, int64_t keep = 0) {
  return {selector, 16, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}, keep, 0};
}

TEST_CASE("goldens: maps of pixels, the centre and even grids") {
  const auto golden = golden_folder();
  if (!golden) return;
  const SafetensorsFile expected = read_safetensors((*golden / "downstream/selectors.safetensors").string());
  const at::Tensor images =
      read_safetensors((*golden / "full/expected.safetensors").string()).tensors.at("pixel_values");
  for (const char* name : {"variance", "gradient", "contrast", "centre"}) {
    CAPTURE(name);
    const at::Tensor map = expected.tensors.at(std::string("map_") + name);
    CHECK(largest_difference(selector_scores(images, options_of(name), {}).to(at::kDouble), map) <
          1e-6 * std::max(1.0, map.abs().max().item<double>()));
  }
  for (const int64_t keep : {1, 19, 49, 98, 147}) {
    CAPTURE(keep);
    const at::Tensor scores = selector_scores(images, options_of("grid", keep), {});
    const at::Tensor chosen = expected.tensors.at("grid_" + std::to_string(keep)).view({1, keep});
    CHECK(at::equal(highest(scores, keep).narrow(0, 2, 1), chosen));
  }
}

SelectorOptions options_of(const char* selector, SelectorModel model, int64_t keep = 0) {
  SelectorOptions options = options_of(selector, keep);
  options.model = std::move(model);
  return options;
}

SelectorModel opened(const MaeCheckpoint& checkpoint) {
  return std::make_shared<const Teacher>(MaskedAutoencoder(checkpoint), Precision::kFloat32);
}
SelectorModel opened(const ClassifierCheckpoint& checkpoint) {
  return std::make_shared<const OpenClassifier>(Classifier(checkpoint), Precision::kFloat32);
}
SelectorModel opened(const RankerCheckpoint& checkpoint) {
  return std::make_shared<const InferenceRanker>(PatchRanker(checkpoint), Precision::kFloat32);
}

ClassifierCheckpoint small_classifier(Pooling pooling) {
  ClassifierConfig config;
  config.image_height = 72;
  config.image_width = 112;  // 9 x 14 patches
  config.patch_size = 8;
  config.encoder = {24, 5, 3, 40};
  config.classes = 7;
  config.pooling = pooling;
  TensorMap tensors = perturbed(Classifier::initialized(config, 2).tensors(), 2);
  // Heads begin next to zero, and so would what is explained.
  tensors["head.weight"] = random_tensor({7, 24}, 3, at::kFloat);
  return {config, tensors, "ltrp"};
}

struct Goldens {
  SafetensorsFile expected;
  at::Tensor images;
  SelectorModel mae, classifier;
};

std::optional<Goldens> goldens() {
  const auto folder = golden_folder();
  if (!folder) return std::nullopt;
  return Goldens{
      read_safetensors((*folder / "downstream/selectors.safetensors").string()),
      read_safetensors((*folder / "full/expected.safetensors").string()).tensors.at("pixel_values"),
      opened(load_checkpoint<MaeConfig>((*folder / "full/mae-official.pth").string(), {.incomplete = true})),
      opened(load_checkpoint<ClassifierConfig>((*folder / "downstream/ltrp-classifier.pth").string()))};
}

TEST_CASE("goldens: attention, rollout and Grad-CAM") {
  const auto golden = goldens();
  if (!golden) return;
  SelectorOptions explained = options_of("grad-cam", golden->classifier);
  explained.classes = golden->expected.tensors.at("gradcam_class");
  for (const auto& [options, name] :
       {std::pair{options_of("mae-attention", golden->mae), "encoder_cls_attention_f64"},
        {options_of("rollout", golden->mae), "encoder_rollout_f64"},
        {options_of("cls-attention", golden->classifier), "classifier_cls_attention_f64"},
        {options_of("rollout", golden->classifier), "classifier_rollout_f64"},
        {explained, "gradcam_f64"}}) {
    CAPTURE(name);
    const at::Tensor expected = golden->expected.tensors.at(name);
    const at::Tensor scores = selector_scores(golden->images, options, {});
    CHECK(largest_difference(scores.to(at::kDouble), expected) < 1e-5 * expected.max().item<double>());
    // An image's scores do not depend on the others.
    SelectorOptions alone = options;
    if (alone.classes) alone.classes = alone.classes->narrow(0, 2, 1).contiguous();
    CHECK(at::equal(selector_scores(golden->images.narrow(0, 2, 1), alone, {})[0], scores[2]));
  }
  // The predicted class, where none is named.
  CHECK(at::equal(selector_scores(golden->images, options_of("grad-cam", golden->classifier), {}),
                  selector_scores(golden->images, explained, {})));
  explained.classes = (*explained.classes + 1) % 10;
  CHECK(!at::equal(selector_scores(golden->images, options_of("grad-cam", golden->classifier), {}),
                   selector_scores(golden->images, explained, {})));
}

// A classifier with the encoder of an autoencoder.
ClassifierCheckpoint with_encoder_of(const MaeCheckpoint& mae, Pooling pooling, int64_t classes) {
  ClassifierConfig config;
  static_cast<VitConfig&>(config) = mae.config;
  config.classes = classes;
  config.pooling = pooling;
  TensorMap tensors = Classifier::initialized(config, 1).tensors();
  for (auto& [name, tensor] : tensors) {
    if (const auto encoder = mae.tensors.find(name); encoder != mae.tensors.end()) tensor = encoder->second;
  }
  return {config, tensors, "ltrp"};
}

TEST_CASE("goldens: attention of an encoder alone, and what patches receive where a head pools them") {
  const auto folder = golden_folder();
  if (!folder) return;
  const MaeCheckpoint mae =
      load_checkpoint<MaeConfig>((*folder / "full/mae-official.pth").string(), {.incomplete = true});
  const SafetensorsFile golden = read_safetensors((*folder / "downstream/selectors.safetensors").string());
  const at::Tensor images =
      read_safetensors((*folder / "full/expected.safetensors").string()).tensors.at("pixel_values");
  for (const auto& [options, name] :
       {std::pair{options_of("mae-attention", opened(with_encoder_of(mae, Pooling::kCls, 0))),
                  "encoder_cls_attention_f64"},
        {options_of("cls-attention", opened(with_encoder_of(mae, Pooling::kMean, 2))),
         "encoder_received_attention_f64"},
        {options_of("cls-attention", opened(with_encoder_of(mae, Pooling::kNormedMean, 2))),
         "encoder_received_attention_f64"}}) {
    CAPTURE(name);
    const at::Tensor expected = golden.tensors.at(name);
    const at::Tensor scores = selector_scores(images, options, {});
    CHECK(largest_difference(scores.to(at::kDouble), expected) < 1e-5 * expected.max().item<double>());
  }
}

// Makes a block's attention even.
void without_queries(ClassifierCheckpoint& checkpoint, int64_t block) {
  const std::string name = "blocks." + std::to_string(block) + ".attn.qkv.";
  for (const char* part : {"weight", "bias"})
    checkpoint.tensors.at(name + part).narrow(0, 0, checkpoint.config.encoder.dim).zero_();
}

TEST_CASE("rollout of attention that is even everywhere has a closed form") {
  const double patches = 9 * 14, depth = 5, stays = std::pow(0.5, depth);
  for (const auto& [pooling, own] : {std::pair{Pooling::kCls, 0.0}, {Pooling::kMean, stays / patches}}) {
    ClassifierCheckpoint checkpoint = small_classifier(pooling);
    for (int64_t block = 0; block < 5; ++block) without_queries(checkpoint, block);
    SelectorOptions options = options_of("rollout", opened(checkpoint));
    options.patch_size = 8;
    const at::Tensor scores = selector_scores(random_tensor({1, 3, 72, 112}, 1, at::kFloat), options, {});
    const double expected = own + (1 - stays) / (patches + 1);
    CHECK(largest_difference(scores.to(at::kDouble), at::full({1, 126}, expected, at::kDouble)) < 1e-7);
  }
}

TEST_CASE("of patches with equal attention EViT's later stages keep the lower") {
  ClassifierCheckpoint checkpoint = small_classifier(Pooling::kCls);
  for (const int64_t stage : {2, 3}) without_queries(checkpoint, stage);
  const int64_t keep = 16;
  SelectorOptions options = options_of("evit", opened(checkpoint), keep);
  options.patch_size = 8;
  const at::Tensor scores = selector_scores(random_tensor({1, 3, 72, 112}, 1, at::kFloat), options, {});
  // (16 / 126)^(1/3) of 126 are left by the first stage, whose attention is not even.
  const at::Tensor first = highest(scores, 64)[0], kept = highest(scores, keep)[0];
  CHECK(at::equal(kept, first.slice(0, 0, keep)));
  CHECK(!at::equal(kept, at::arange(keep)));
}

TEST_CASE("goldens: EViT's criterion and token merging keep the same patches") {
  const auto golden = goldens();
  if (!golden) return;
  const auto kept = [&](const char* name) {
    return std::get<0>(
        highest(selector_scores(golden->images, options_of(name, golden->classifier, 98), {}), 98).sort(1));
  };
  const auto sorted = [&](const char* name) {
    return std::get<0>(golden->expected.tensors.at(name).sort(1));
  };
  CHECK(at::equal(kept("evit"), sorted("evit_kept_98")));
  CHECK(at::equal(kept("tome"), sorted("tome_kept_98")));
  // By falling attention, and behind them those that went with the last stage, the latest first.
  const at::Tensor order = selector_scores(golden->images, options_of("evit", golden->classifier, 98), {})
                               .argsort(/*stable=*/true, 1, /*descending=*/true);
  CHECK(at::equal(order.slice(1, 0, 99), golden->expected.tensors.at("evit_last_stage_98")));
  // Groups have all patches between them.
  const at::Tensor sizes = selector_scores(golden->images, options_of("tome", golden->classifier, 98), {});
  CHECK(at::equal(sizes.sum(1), at::full({4}, 196.0F)));
  CHECK(at::equal(sizes.gt(0).sum(1), at::full({4}, 98, at::kLong)));
  // More merges than the blocks have room for: the larger groups come first.
  const at::Tensor few = selector_scores(golden->images, options_of("tome", golden->mae, 1), {});
  CHECK(few.max().item<float>() > 1);
}

// The authors' reference switches it off for masked autoencoders and what is fine-tuned from them (ToMe,
// issues 33 and 49).
TEST_CASE("token merging weighs attention by sizes for supervised models only") {
  ClassifierCheckpoint cls = small_classifier(Pooling::kCls);
  const at::Tensor images = random_tensor({3, 3, 72, 112}, 4, at::kFloat);
  const auto sizes = [&](const ClassifierCheckpoint& checkpoint) {
    SelectorOptions options = options_of("tome", opened(checkpoint), 40);
    options.patch_size = 8;
    return selector_scores(images, options, {});
  };
  const auto changed = [&](int64_t classes, Pooling pooling, std::initializer_list<const char*> gone) {
    ClassifierCheckpoint other = cls;
    other.config.classes = classes;
    other.config.pooling = pooling;
    for (const char* name : gone) other.tensors.erase(name);
    return other;
  };
  ClassifierCheckpoint fine_tuned = changed(7, Pooling::kMean, {"norm.weight", "norm.bias"});
  for (const char* part : {"weight", "bias"})
    fine_tuned.tensors[std::string("fc_norm.") + part] = cls.tensors.at(std::string("norm.") + part);
  const at::Tensor plain = sizes(changed(0, Pooling::kCls, {"head.weight", "head.bias"}));
  CHECK(at::equal(sizes(fine_tuned), plain));
  CHECK(!at::equal(sizes(cls), plain));
  CHECK(at::equal(sizes(changed(7, Pooling::kNormedMean, {})), sizes(cls)));

  const auto folder = golden_folder();
  if (!folder) return;
  const auto golden = goldens();
  const std::string file = (*folder / "full/mae-official.pth").string();
  const SelectorModel headless = opened(load_checkpoint<ClassifierConfig>(file, {.incomplete = true}));
  for (const int64_t keep : {20, 49, 98, 147}) {
    CAPTURE(keep);
    CHECK(at::equal(selector_scores(golden->images, options_of("tome", headless, keep), {}),
                    selector_scores(golden->images, options_of("tome", golden->mae, keep), {})));
  }
}

TEST_CASE("goldens: clusters of pixels") {
  const auto golden = goldens();
  if (!golden) return;
  const auto& expected = golden->expected.tensors;
  const at::Tensor patches = patchify_channels_last(golden->images, 16);
  for (int64_t image = 0; image < 4; ++image) {
    CAPTURE(image);
    const at::Tensor scores =
        density_peak_scores(patches[image].to(at::kDouble), expected.at("dpc_noise")[image], [] {});
    CHECK(largest_difference(scores.to(at::kDouble), expected.at("dpc_score")[image]) < 1e-6);
    for (const std::string k : {"49", "98"}) {
      CAPTURE(k);
      const int64_t keep = std::stoll(k);
      CHECK(
          at::equal(scores.argsort(true, 0, true).slice(0, 0, keep), expected.at("dpc_centres_" + k)[image]));

      // The selection clusters in float32, and has equal patches in image 2.
      SelectionOptions clusters_alone;
      clusters_alone.keep = keep;
      clusters_alone.patch_size = 16;
      clusters_alone.score_share = 0;
      clusters_alone.density_noise = expected.at("dpc_noise").slice(0, image, image + 1).to(at::kFloat);
      CHECK(at::equal(select_patches(golden->images.slice(0, image, image + 1), at::zeros({1, 196}),
                                     clusters_alone, {})[0],
                      std::get<0>(expected.at("dpc_centres_" + k)[image].sort())));

      const at::Tensor exact = patches[image].to(at::kDouble);
      const KMeans found = k_means(exact, expected.at("kmeans_uniform_" + k)[image].contiguous(), {});
      const at::Tensor labels = at::tensor(found.assignment, at::kLong);
      CHECK(at::equal(at::tensor(found.initial, at::kLong), expected.at("kmeans_initial_" + k)[image]));
      CHECK(at::equal(labels, expected.at("kmeans_labels_" + k)[image]));
      CHECK(found.rounds == expected.at("kmeans_rounds_" + k)[image].item<int64_t>());
      double inertia = 0;
      for (int64_t cluster = 0; cluster < keep; ++cluster) {
        const at::Tensor members = labels.eq(cluster).nonzero().flatten();
        const at::Tensor own = exact.index_select(0, members);
        const at::Tensor distance = (own - own.mean(0)).square().sum(1);
        inertia += distance.sum().item<double>();
        const auto of = [&](int64_t patch) { return distance[members.eq(patch).nonzero().item<int64_t>()]; };
        const int64_t theirs = expected.at("kmeans_kept_" + k)[image][cluster].item<int64_t>();
        // The two members of a cluster are equally far from its mean; there the reference goes by rounding.
        CHECK(std::abs((of(found.members[static_cast<size_t>(cluster)]) - of(theirs)).item<double>()) <
              1e-9 * (1 + of(theirs).item<double>()));
      }
      CHECK(inertia ==
            doctest::Approx(expected.at("kmeans_inertia_" + k)[image].item<double>()).epsilon(1e-6));
    }
  }
}

TEST_CASE("Grad-CAM of every head explains the logit's derivative by finite differences in float64") {
  constexpr double kStep = 1e-5;
  const at::Tensor images = random_tensor({2, 3, 72, 112}, 1, at::kFloat);
  for (const Pooling pooling : {Pooling::kCls, Pooling::kMean, Pooling::kNormedMean}) {
    CAPTURE(name_of(pooling));
    const ClassifierCheckpoint checkpoint = small_classifier(pooling);
    SelectorOptions options = options_of("grad-cam", opened(checkpoint));
    options.patch_size = 8;
    options.classes = at::tensor({5, 2}, at::kLong);
    const at::Tensor scores = selector_scores(images, options, {});
    const Classifier exact(checkpoint, at::kDouble);
    const Transformer& blocks = exact.vit().blocks();
    const TransformerBlock& last = blocks.blocks.back();
    for (int64_t image = 0; image < 2; ++image) {
      at::Tensor tokens = exact.vit().tokens(images.narrow(0, image, 1));
      for (size_t i = 0; i + 1 < blocks.blocks.size(); ++i) tokens = blocks.blocks[i].forward(tokens);
      const at::Tensor normed = last.norm1(tokens);
      const auto logit = [&](const at::Tensor& a) {
        const at::Tensor out = blocks.norm(last.finish(tokens, last.attend(last.qkv(a))));
        return exact.logits().read(out)[0][image == 0 ? 5 : 2].item<double>();
      };
      at::Tensor expected = at::zeros({126}, at::kDouble);
      for (int64_t channel = 0; channel < 24; ++channel) {
        at::Tensor step = at::zeros_like(normed);
        step.slice(1, 1).select(2, channel).fill_(kStep);
        const double weight = (logit(normed + step) - logit(normed - step)) / (2 * kStep) / 126;
        expected += weight * normed[0].slice(0, 1).select(1, channel);
      }
      expected = expected.relu();
      CHECK(expected.max().item<double>() > 1e-4);
      CHECK(largest_difference(scores[image].to(at::kDouble), expected) <
            1e-4 * expected.max().item<double>());
    }
  }
}

TEST_CASE("the ranker's, the teacher's and the diverse selection's scores are theirs") {
  const MaeConfig config = small_mae_config();
  const at::Tensor images = random_tensor({3, 3, 24, 32}, 1, at::kFloat);
  const MaeCheckpoint mae{config, perturbed(MaskedAutoencoder::initialized(config, 1).tensors(), 1), "ltrp"};
  const auto with = [&](const char* name, SelectorModel model, int64_t keep = 0) {
    SelectorOptions options = options_of(name, std::move(model), keep);
    options.patch_size = 8;
    options.seed = 7;
    return options;
  };
  const auto teacher = std::make_shared<const Teacher>(MaskedAutoencoder(mae), Precision::kFloat32);
  ScoreMapOptions map;
  map.seed = 7;
  CHECK(at::equal(selector_scores(images, with("teacher", teacher), {}),
                  score_map(*teacher, images, map, {}).mean.flatten(1)));
  // Pictures of a larger batch have its numbers.
  const auto same_when_split = [&](SelectorOptions options) {
    const at::Tensor all = selector_scores(images, options, {});
    options.first_image = 2;
    return at::equal(selector_scores(images.narrow(0, 2, 1), options, {}), all.narrow(0, 2, 1));
  };
  CHECK(same_when_split(with("teacher", teacher)));
  for (const RankerHead head : {RankerHead::kCls, RankerHead::kToken}) {
    const RankerConfig small = small_ranker_config(head);
    const RankerCheckpoint checkpoint{small, perturbed(PatchRanker::initialized(small, 3).tensors(), 3),
                                      "ltrp"};
    const auto ranker = std::make_shared<const InferenceRanker>(PatchRanker(checkpoint), Precision::kFloat32);
    const at::Tensor logits = ranker->logits(images, {}, {});
    CHECK(at::equal(selector_scores(images, with("ranker", ranker), {}), logits));
    SelectionOptions selection;
    selection.keep = 7;
    selection.patch_size = 8;
    selection.score_share = 0.7;
    selection.seed = 7;
    CHECK(at::equal(highest(selector_scores(images, with("ranker-diverse", ranker, 7), {}), 7),
                    select_patches(images, logits, selection, {})));
    CHECK(same_when_split(with("ranker-diverse", ranker, 7)));
  }
}

TEST_CASE("of one colour all contrast and all distances are 0, so that ties go to the lower patch") {
  SelectorOptions options = options_of("contrast"), clusters = options_of("dpc-knn");
  options.patch_size = clusters.patch_size = 8;
  const std::array<uint8_t, 3> colour{100, 37, 211};
  at::Tensor image = at::empty({1, 56, 72, 3}, at::kByte);
  for (int64_t channel = 0; channel < 3; ++channel)
    image.select(3, channel).fill_(colour[static_cast<size_t>(channel)]);
  CHECK(at::equal(selector_scores(image, options, {}), at::zeros({1, 63})));
  CHECK(at::equal(selector_scores(image, clusters, {}), at::zeros({1, 63})));
}

TEST_CASE("every selector survives a picture of one colour and little to keep, on bytes too") {
  const MaeConfig config = small_mae_config();
  const RankerConfig small = small_ranker_config(RankerHead::kToken);
  const SelectorModel mae = opened(
                          MaeCheckpoint{config, MaskedAutoencoder::initialized(config, 1).tensors(), "ltrp"}),
                      ranker = opened(
                          RankerCheckpoint{small, PatchRanker::initialized(small, 3).tensors(), "ltrp"}),
                      classifier = opened(small_classifier(Pooling::kCls));
  const auto asked = [&](Needs needs) {
    if (needs == Needs::kRanker) return ranker;
    return needs == Needs::kAutoencoder || needs == Needs::kBareEncoder ? mae : classifier;
  };
  const at::Tensor plain = at::full({2, 3, 24, 32}, 0.5F), bytes = at::full({2, 24, 32, 3}, 100, at::kByte);
  for (const Selector& selector : kSelectors) {
    CAPTURE(selector.name);
    SelectorOptions options = options_of(selector.name, asked(selector.needs), 1);
    options.patch_size = 8;
    for (const at::Tensor& images : {plain, bytes}) {
      const at::Tensor scores = selector_scores(images, options, {});
      CHECK(scores.sizes() == at::IntArrayRef{2, 12});
      CHECK(at::isfinite(scores).all().item<bool>());
    }
    options.keep = 12;
    CHECK(at::isfinite(selector_scores(plain, options, {})).all().item<bool>());
  }
}

TEST_CASE("a selector refuses a model that it cannot ask, and classes that are none") {
  const at::Tensor images = random_tensor({2, 3, 72, 112}, 1, at::kFloat);
  const MaeConfig config = small_mae_config();
  const SelectorModel mae = opened(
                          MaeCheckpoint{config, MaskedAutoencoder::initialized(config, 1).tensors(), "ltrp"}),
                      cls = opened(small_classifier(Pooling::kCls)),
                      mean = opened(small_classifier(Pooling::kMean));
  const auto refused = [&](const char* name, const SelectorModel& model, const char* part) {
    SelectorOptions options = options_of(name, model, 5);
    options.patch_size = 8;
    CAPTURE(name);
    check_refused(codes::kInvalidArgument, part, [&] { selector_scores(images, options, {}); });
  };
  refused("ranker", {}, "model must be a ranker for the selector 'ranker'; got none");
  refused("mae-attention", cls,
          "model must be a masked autoencoder or a vision transformer without a head for the selector "
          "'mae-attention'; got a");
  refused("evit", mean, "got a vision transformer whose pooling is 'mean'");
  ClassifierCheckpoint queries = small_classifier(Pooling::kMean);
  queries.config.pooling = Pooling::kQueries;
  queries.config.queries = 3;
  queries.config.query_dim = 8;
  queries.tensors = Classifier::initialized(queries.config, 1).tensors();
  refused("cls-attention", opened(queries), "whose pooling is 'queries'");
  refused("cls-attention", mae, "got a masked autoencoder");
  refused("grad-cam", mae, "model must be a vision transformer with a linear head");
  refused("tome", {}, "model must be a masked autoencoder or a vision transformer");
  SelectorOptions options = options_of("grad-cam", cls);
  refused("tome", {}, "got none");
  check_refused(codes::kInvalidArgument, "patchSize must be the model's 8", [&] {
    selector_scores(random_tensor({1, 3, 32, 32}, 1, at::kFloat), options, {});
  });
  options.patch_size = 8;
  options.classes = at::tensor({1}, at::kLong);
  check_refused(codes::kInvalidArgument, "a class for each of the 2 images; got 1",
                [&] { selector_scores(images, options, {}); });
  options.classes = at::tensor({1, 7}, at::kLong);
  check_refused(codes::kInvalidArgument, "classes[1] must be in [0, 7); got 7",
                [&] { selector_scores(images, options, {}); });
}

TEST_CASE("noise depends on the seed and the image's place alone") {
  const at::Tensor images = random_tensor({3, 3, 32, 48}, 1, at::kFloat);
  SelectorOptions options = options_of("random");
  const at::Tensor all = selector_scores(images, options, {});
  CHECK(at::equal(selector_scores(images.narrow(0, 0, 2), options, {}), all.narrow(0, 0, 2)));
  CHECK(!at::equal(all[0], all[1]));
  options.seed = 1;
  CHECK(!at::equal(selector_scores(images, options, {}), all));
}

TEST_CASE("unknown selectors, sizes that do not divide, and a grid of nobody knows how many are refused") {
  const at::Tensor images = random_tensor({1, 3, 32, 48}, 1, at::kFloat);
  const auto refused = [&](const SelectorOptions& options, const char* part) {
    check_refused(codes::kInvalidArgument, part, [&] { selector_scores(images, options, {}); });
  };
  refused(options_of("best"), "selector must be one of 'centre', 'cls-attention', 'contrast'");
  refused(options_of("grid"), "keep must be in [1, 6]; got 0");
  refused(options_of("random", 7), "keep must be in [1, 6]; got 7");
  SelectorOptions odd = options_of("random");
  odd.patch_size = 10;
  refused(odd, "patchSize must divide the images' 32 x 48 pixels; got 10");
}

}  // namespace
}  // namespace ltrp::test
