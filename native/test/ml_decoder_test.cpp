// Many labels: ML-Decoder against the authors' goldens, float64 and finite differences; fine-tuning on them.
#include "core/model/ml_decoder.h"

#include <c10/core/GradMode.h>
#include <doctest/doctest.h>

#include <cmath>

#include "core/checkpoint/safetensors.h"
#include "core/device/precision.h"
#include "core/engine/average_precision.h"
#include "core/engine/inference.h"
#include "core/engine/masking.h"
#include "core/training/asymmetric_loss.h"
#include "core/training/finetuner.h"
#include "core/training/layer_decay.h"
#include "core/training/mixing.h"
#include "test/checkpoint_support.h"
#include "test/core_support.h"
#include "test/delta_support.h"

namespace ltrp::test {
namespace {

// 5 categories in 3 groups of 2, the last of which is half empty.
ClassifierConfig small_config() {
  ClassifierConfig config;
  config.image_height = 24;
  config.image_width = 32;
  config.patch_size = 8;
  config.encoder = {24, 2, 3, 40};
  config.classes = 5;
  config.pooling = Pooling::kQueries;
  config.queries = 3;
  config.query_dim = 16;
  return config;
}

void require_gradients(const TensorMap& tensors) {
  for (const auto& entry : tensors) at::Tensor(entry.second).requires_grad_(true);
}

TEST_CASE("goldens: ML-Decoder's logits on all and on kept patches, its loss and its gradients") {
  const auto folder = golden_folder();
  if (!folder) return;
  const auto read = [&](const char* file) { return read_safetensors((*folder / file).string()).tensors; };
  const TensorMap golden = read("downstream/multilabel.safetensors");
  const TensorMap classifier = read("downstream/classifier.safetensors");
  const at::Tensor images = read("full/expected.safetensors").at("pixel_values");
  const auto checkpoint =
      load_checkpoint<ClassifierConfig>((*folder / "downstream/ltrp-multilabel.pth").string());
  CHECK(checkpoint.config.pooling == Pooling::kQueries);
  CHECK(checkpoint.config.classes == 20);
  CHECK(checkpoint.config.queries == 20);
  CHECK(checkpoint.config.query_dim == 32);
  const Classifier exact(checkpoint, at::kDouble);
  const Inference<Classifier> fast(Classifier(checkpoint), Precision::kFloat32);
  for (const std::string kept : {"full", "147", "98", "49", "19", "1"}) {
    CAPTURE(kept);
    std::optional<at::Tensor> keep;
    if (kept != "full") keep = classifier.at("keep_" + kept).to(at::kLong).contiguous();
    CHECK(largest_difference(exact.forward(images, keep), golden.at("ml_logits_" + kept + "_f64")) < 1e-5);
    CHECK(largest_difference(fast.vit().read(images, keep, fast.model().logits(), {}),
                             golden.at("ml_logits_" + kept)) < 1e-4);
  }
  const Classifier model(checkpoint, at::kDouble);
  require_gradients(model.tensors());
  const at::Tensor loss = asymmetric_loss(
      model.forward(images, classifier.at("keep_98").to(at::kLong).contiguous()), golden.at("ml_targets"), 4);
  loss.backward();
  CHECK(loss.item<double>() == doctest::Approx(golden.at("ml_loss_98_f64").item<double>()).epsilon(1e-5));
  size_t compared = 0;
  for (const auto& [name, expected] : golden) {
    const std::string begin = "ml_grad_98.";
    if (!name.starts_with(begin)) continue;
    CAPTURE(name);
    CHECK(largest_difference(model.tensors().at(name.substr(begin.size())).grad(), expected.to(at::kDouble)) <
          1e-5);
    ++compared;
  }
  CHECK(compared > 10);
}

TEST_CASE("goldens: several classes of a query, and their gradients") {
  const auto folder = golden_folder();
  if (!folder) return;
  const TensorMap golden = read_safetensors((*folder / "downstream/multilabel.safetensors").string()).tensors;
  TensorMap weights;
  for (const auto& [name, tensor] :
       read_safetensors((*folder / "downstream/ml-decoder-groups.safetensors").string()).tensors)
    weights[name] = tensor.to(at::kDouble);
  require_gradients(weights);
  at::Tensor tokens = golden.at("group_tokens").to(at::kDouble).requires_grad_(true);
  const MlDecoder decoder(weights, "decoder.", 25);
  const at::Tensor logits = decoder(tokens);
  CHECK(largest_difference(logits.detach(), golden.at("group_logits_f64")) < 1e-9);
  (logits * golden.at("group_grad_weight").to(at::kDouble)).sum().backward();
  CHECK(largest_difference(tokens.grad(), golden.at("group_grad.tokens").to(at::kDouble)) < 1e-5);
  for (const auto& [name, expected] : golden) {
    const std::string begin = "group_grad.decoder.";
    if (!name.starts_with(begin)) continue;
    CAPTURE(name);
    CHECK(largest_difference(weights.at(name.substr(std::string("group_grad.").size())).grad(),
                             expected.to(at::kDouble)) < 1e-5);
  }
}

TEST_CASE("ML-Decoder's gradients with dropout equal finite differences; its shares; the queries stay") {
  const ClassifierConfig config = small_config();
  const ClassifierCheckpoint checkpoint{config, perturbed(Classifier::initialized(config, 1).tensors(), 1),
                                        "ltrp"};
  const Classifier model(checkpoint, at::kDouble);
  const at::Tensor images = random_tensor({3, 3, 24, 32}, 2, at::kFloat);
  const at::Tensor keep = visible_from_noise(masking_noise(3, 12, 3), 4);
  const at::Tensor targets = label_targets({{0, 4}, {}, {2}}, 5);
  CHECK(targets.sum().item<float>() == 3);
  const MlDecoderDropout dropout = decoder_dropout(0.3, 3, 16, 5, 3, 9, 0);
  // The focusing powers carry no gradient, so that only without them the loss has the one that it says.
  const auto loss = [&] {
    return asymmetric_loss(model.forward(images, keep, {}, &dropout), targets, 3, {0, 0, 0});
  };
  for (const auto& [name, tensor] : model.tensors()) {
    if (!name.starts_with("head.")) continue;
    CAPTURE(name);
    CHECK(worst_gradient_error(tensor, loss, std::max<int64_t>(1, tensor.numel() / 40)) < 1e-6);
  }

  const MlDecoderDropout many = decoder_dropout(0.1, 4, 16, 6, 50, 9, 0);
  for (const at::Tensor& part : {many.queries, many.attention, many.attended, many.hidden, many.output}) {
    CHECK(std::abs(part.eq(0).to(at::kDouble).mean().item<double>() - 0.1) < 0.03);
    CHECK(part.max().item<float>() == doctest::Approx(1 / 0.9));
  }
  // By the picture's number alone.
  CHECK(at::equal(decoder_dropout(0.1, 4, 16, 6, 5, 9, 7).attention, many.attention.slice(0, 7, 12)));

  CHECK_FALSE(layer_decay_rule("head.decoder.query_embed.weight", at::empty({3, 16}), 2, 0.7).trained);
  CHECK(layer_decay_rule("head.decoder.duplicate_pooling", at::empty({3, 16, 2}), 2, 0.7).decayed);
  CHECK(layer_decay_rule("head.decoder.duplicate_pooling", at::empty({3, 16, 2}), 2, 0.7).scale == 1);
}

TEST_CASE(
    "every precision of a head of queries agrees with float64, in any batch, on any number of threads") {
  ClassifierConfig config = small_config();
  config.image_height = 80;
  config.image_width = 96;
  config.encoder = {72, 4, 3, 200};
  const ClassifierCheckpoint checkpoint{config, perturbed(Classifier::initialized(config, 2).tensors(), 2),
                                        "ltrp"};
  const Classifier exact(checkpoint, at::kDouble);
  const at::Tensor images = random_tensor({5, 3, 80, 96}, 1, at::kFloat);
  const at::Tensor expected = exact.forward(images);
  for (const Precision precision : all_precisions()) {
    CAPTURE(static_cast<int>(precision));
    const Inference<Classifier> model(Classifier(checkpoint), precision);
    const auto read = [&](int64_t begin, int64_t count) {
      return model.vit().read(images.narrow(0, begin, count), {}, model.model().logits(), {});
    };
    const at::Tensor logits = read(0, 5);
    const double tolerance = model.precision() == Precision::kFloat32 ? 1e-5 : 0.2;
    CHECK(largest_difference(logits.to(at::kDouble), expected) / expected.std().item<double>() < tolerance);
    CHECK(model.vit().read(images, {}, model.model().embedding(), {}).size(1) == 72);
    for (const int threads : {1, 3}) {
      const ThreadCount count(threads);
      for (const int64_t i : {0, 4}) {
        const at::Tensor alone = read(i, 1)[0];
        CHECK(largest_difference(alone, logits[i]) < 1e-5 * std::max(1.0, logits.abs().max().item<double>()));
        if (threads == 1) CHECK(at::equal(alone, read(0, 5)[i]));
      }
    }
  }
}

FinetuneOptions multi_label_options() {
  FinetuneOptions options;
  options.model = small_config();
  options.labels = Labels::kMany;
  options.label_smoothing = 0;
  options.training.batch_size = options.training.micro_batch_size = 6;
  options.training.steps = 160;
  options.training.warmup_steps = 4;
  options.training.learning_rate = 3e-3;
  options.training.beta2 = 0.999;
  options.training.crop_scale = {0.9, 1};
  options.training.flip = false;
  options.erase = 0;
  options.keep_ratio = 0.75;
  options.selector = "variance";
  return options;
}

// Categories 0, 1, 2 come and go, 3 is everywhere, 4 nowhere.
std::vector<Picture> labelled(const Pictures& pictures) {
  std::vector<Picture> views = pictures.views();
  for (size_t i = 0; i < views.size(); ++i) {
    std::vector<int64_t>& labels = views[i].labels.emplace(std::vector<int64_t>{3});
    for (int64_t id = 0; id < 3; ++id) {
      if ((i + 1) >> id & 1) labels.push_back(id);
    }
  }
  return views;
}

TEST_CASE("fine-tuning learns categories, over all pictures, and resumes bit for bit") {
  const ScratchFolder folder;
  const Pictures pictures(6, 40, 48, 3);
  const std::vector<Picture> views = labelled(pictures);
  FinetuneOptions options = multi_label_options();
  options.unseen = {2, 4};
  const auto trainer = create_finetuner(options);
  for (int i = 0; i < 150; ++i) trainer->train_step(views, {});
  const EvaluationResult after = trainer->evaluate(views, {});
  CHECK_FALSE(after.accuracy);
  CHECK(*after.mean_average_precision > 0.95);
  REQUIRE(after.average_precision.size() == 5);
  CHECK(after.average_precision[3] == 1);
  CHECK(std::isnan(after.average_precision[4]));
  CHECK(*after.unseen_average_precision == after.average_precision[2]);
  CHECK(*after.seen_average_precision ==
        doctest::Approx((after.average_precision[0] + after.average_precision[1] + 1) / 3));
  trainer->save(folder / "run.safetensors");
  const auto resumed = resume_trainer(folder / "run.safetensors");
  CHECK(resumed->finetune_options()->unseen == std::vector<int64_t>{2, 4});
  for (int i = 0; i < 3; ++i)
    CHECK(resumed->train_step(views, {}).loss == trainer->train_step(views, {}).loss);
  trainer->export_model(folder / "model.safetensors", StoredType::kFloat32);
  const auto exported = load_checkpoint<ClassifierConfig>(folder / "model.safetensors");
  CHECK(exported.config == options.model);
  const TensorMap first = Classifier::initialized(options.model, 0).tensors();
  const auto stays = [&](const char* name) { return at::equal(exported.tensors.at(name), first.at(name)); };
  CHECK(stays("head.decoder.query_embed.weight"));
  CHECK_FALSE(stays("head.decoder.duplicate_pooling"));

  // Another number of categories: a new head, all of it.
  options.init = folder / "model.safetensors";
  options.model.classes = 6;
  options.unseen = {};
  const auto wider = create_finetuner(options);
  wider->export_model(folder / "wider.safetensors", StoredType::kFloat32);
  const auto begun = load_checkpoint<ClassifierConfig>(folder / "wider.safetensors").tensors;
  CHECK(at::equal(begun.at("norm.weight"), exported.tensors.at("norm.weight")));
  CHECK_FALSE(at::equal(begun.at("head.decoder.embed_standart.weight"),
                        exported.tensors.at("head.decoder.embed_standart.weight")));
}

TEST_CASE("many labels in pieces of a batch give the same curve, mixed, dropped and chosen") {
  const Pictures pictures(8, 40, 48, 3);
  const std::vector<Picture> views = labelled(pictures);
  std::vector<double> curves[2];
  for (const int64_t micro : {8, 2}) {
    FinetuneOptions options = multi_label_options();
    options.training.batch_size = 8;
    options.training.micro_batch_size = micro;
    options.mixup = 0.8;
    options.cutmix = 1;
    options.keep_random = {0.2, 0.9};
    const auto trainer = create_finetuner(options);
    std::vector<double>& curve = curves[micro == 8 ? 0 : 1];
    for (int i = 0; i < 6; ++i) curve.push_back(trainer->train_step(views, {}).loss);
    curve.push_back(*trainer->evaluate(views, {}).mean_average_precision);
  }
  for (size_t i = 0; i < curves[0].size(); ++i)
    CHECK(curves[0][i] == doctest::Approx(curves[1][i]).epsilon(1e-4));
}

TEST_CASE("a linear head takes many labels, too, and whole pictures are judged") {
  // The same in the middle, which is all that a centre crop shows.
  std::vector<at::Tensor> bytes{at::full({24, 96, 3}, 90, at::kByte), at::full({24, 96, 3}, 90, at::kByte)};
  bytes[1].slice(1, 0, 24).fill_(250);
  std::vector<Picture> views;
  for (const at::Tensor& picture : bytes) {
    views.push_back({picture.const_data_ptr<uint8_t>(), 24, 96});
    views.back().label = 1;
    views.back().labels = {1};
  }
  FinetuneOptions options = multi_label_options();
  options.model.pooling = Pooling::kCls;
  options.model.queries = options.model.query_dim = 0;
  options.training.batch_size = options.training.micro_batch_size = 2;
  options.keep_ratio = 1;
  for (const Labels labels : {Labels::kOne, Labels::kMany}) {
    options.labels = labels;
    const auto trainer = create_finetuner(options);
    for (int i = 0; i < 20; ++i) trainer->train_step(views, {});
    const auto loss = [&](size_t i) { return *trainer->evaluate({&views[i], 1}, {}).loss; };
    CHECK((loss(0) == loss(1)) == (labels == Labels::kOne));
  }
}

TEST_CASE("labels that cannot be are refused in one sentence") {
  const auto refused = [](const char* part, auto change) {
    FinetuneOptions options = multi_label_options();
    change(options);
    CAPTURE(part);
    check_refused(codes::kInvalidArgument, part, [&] { create_finetuner(options); });
  };
  refused("labelSmoothing must be 0 with labels 'many'", [](auto& o) { o.label_smoothing = 0.1; });
  refused("unseen must be in [0, 5); got 5", [](auto& o) { o.unseen = {5}; });
  refused("has 1 twice", [](auto& o) { o.unseen = {1, 1}; });
  refused("at least one category that is seen", [](auto& o) { o.unseen = {0, 1, 2, 3, 4}; });
  refused("unseen must be left out with labels 'one'", [](auto& o) {
    o.labels = Labels::kOne;
    o.unseen = {1};
  });
  refused("gammaNegative must be at least 0", [](auto& o) { o.asymmetric.gamma_negative = -1; });
  refused("queries must be in [1, 5]; got 6", [](auto& o) { o.model.queries = 6; });
  refused("queryDim must be a multiple of 8; got 20", [](auto& o) { o.model.query_dim = 20; });
  refused("queries and queryDim must be 0 with pooling 'cls'",
          [](auto& o) { o.model.pooling = Pooling::kCls; });
  const Pictures pictures(6, 40, 48, 3);
  const auto trainer = create_finetuner(multi_label_options());
  check_refused(codes::kInvalidArgument, "pictures[0].labels must list",
                [&] { trainer->train_step(pictures.views(), {}); });
  std::vector<Picture> views = labelled(pictures);
  views[2].labels = {1, 5};
  check_refused(codes::kInvalidArgument, "pictures[2].labels must be in [0, 5); got 5",
                [&] { trainer->evaluate(views, {}); });
}

}  // namespace
}  // namespace ltrp::test
