// Fine-tuning of classifiers: the authors' goldens, gradients, what is drawn, runs.
#include <c10/core/GradMode.h>
#include <doctest/doctest.h>

#include <atomic>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/checkpoint/safetensors.h"
#include "core/engine/masking.h"
#include "core/training/finetuner.h"
#include "core/training/layer_decay.h"
#include "core/training/mixing.h"
#include "core/training/trained_blocks.h"
#include "test/checkpoint_support.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

ClassifierConfig small_config(Pooling pooling = Pooling::kCls) {
  ClassifierConfig config;
  config.image_height = 24;
  config.image_width = 32;
  config.patch_size = 8;
  config.encoder = {24, 3, 3, 40};
  config.classes = 3;
  config.pooling = pooling;
  return config;
}

FinetuneOptions finetune_options() {
  FinetuneOptions options;
  options.model = small_config();
  options.training.batch_size = 6;
  options.training.micro_batch_size = 6;
  options.training.steps = 40;
  options.training.warmup_steps = 4;
  options.training.learning_rate = 3e-3;
  options.training.beta2 = 0.999;
  options.keep_ratio = 0.5;
  return options;
}

// With the labels 0, 1, 2, 0, 1, 2.
std::vector<Picture> labelled(const Pictures& pictures) {
  std::vector<Picture> views = pictures.views();
  for (size_t i = 0; i < views.size(); ++i) views[i].label = static_cast<int64_t>(i % 3);
  return views;
}

std::optional<nlohmann::json> decay_goldens() {
  const auto golden = golden_folder();
  if (!golden) return std::nullopt;
  std::ifstream file(*golden / "downstream/layer-decay.json");
  return nlohmann::json::parse(file);
}

TEST_CASE("goldens: groups of layer-wise decay, the schedule, drop path; an unknown name is an error") {
  const auto golden = decay_goldens();
  if (!golden) return;
  const auto depth = golden->at("depth").get<int64_t>();
  size_t compared = 0;
  for (const auto& [model, decay] : {std::pair{"ltrp 0.75", 0.75}, {"ltrp 0.65", 0.65}, {"mae 0.65", 0.65}}) {
    CAPTURE(model);
    for (const auto& group : golden->at("tables").at(model)) {
      for (const std::string name : group.at("names")) {
        CAPTURE(name);
        const bool one = group.at("weight_decay").get<double>() == 0;
        const bool table = name == "cls_token" || name == "pos_embed";
        const at::Tensor tensor = one && !table ? at::empty({2}) : at::empty({1, 2});
        const TensorRule rule = layer_decay_rule(name, tensor, depth, decay);
        CHECK(rule.trained);
        CHECK(rule.decayed == !one);
        CHECK(rule.scale == doctest::Approx(group.at("lr_scale").get<double>()).epsilon(1e-12));
        ++compared;
      }
    }
  }
  CHECK(compared == 3 * 152);
  for (const char* name : {"blocks.12.norm1.weight", "blocks.x.norm1.weight", "blocks.1", "mask_token",
                           "encoder.layer.0.weight", "decoder_embed.weight"}) {
    CAPTURE(name);
    check_refused(codes::kInternal, "belongs to no layer", [&] {
      layer_decay_rule(name, at::empty({2, 2}), depth, 0.75);
    });
  }

  const auto& schedule = golden->at("schedule");
  TrainingOptions options;
  options.learning_rate = schedule.at("lr").get<double>();
  options.steps = schedule.at("epochs").get<int64_t>() * 100;
  options.warmup_steps = schedule.at("warmup_epochs").get<int64_t>() * 100;
  for (size_t i = 0; i < schedule.at("at").size(); ++i) {
    const auto done = std::llround(schedule.at("at")[i].get<double>() * 100);
    CHECK(decayed_learning_rate(options, schedule.at("min_lr").get<double>(), done) ==
          doctest::Approx(schedule.at("values")[i].get<double>()).epsilon(1e-10));
  }
  const auto& rates = golden->at("drop_path").at("0.2 depth 24");
  for (int64_t block = 0; block < 24; ++block)
    CHECK(drop_path_rate(0.2, block, 24) ==
          doctest::Approx(rates[static_cast<size_t>(block)].get<double>()).epsilon(1e-12));
}

TEST_CASE("fine-tuning with a stable rate falls to the least one in the last steps") {
  TrainingOptions options;
  options.learning_rate = 1;
  options.steps = 100;
  options.warmup_steps = 10;
  options.schedule = Schedule::kWsd;
  options.decay_steps = 20;
  for (const auto& [done, rate] :
       {std::pair<int64_t, double>{0, 0}, {5, 0.5}, {10, 1}, {80, 1}, {85, 0.55}, {100, 0.1}})
    CHECK(decayed_learning_rate(options, 0.1, done) == doctest::Approx(rate).epsilon(1e-12));
  options.decay_steps = 0;
  CHECK(decayed_learning_rate(options, 0.1, 100) == 1);
}

TEST_CASE("goldens: smoothed and mixed targets, mixed pictures, the loss and its gradient") {
  const auto folder = golden_folder();
  if (!folder) return;
  const TensorMap golden = read_safetensors((*folder / "downstream/losses.safetensors").string()).tensors;
  const at::Tensor labels = golden.at("loss_labels");
  const auto compare = [&](const char* name, const at::Tensor& targets) {
    CAPTURE(name);
    at::Tensor logits = golden.at("loss_logits").to(at::kDouble).requires_grad_(true);
    const at::Tensor loss = soft_cross_entropy(logits, targets.to(at::kDouble));
    loss.backward();
    CHECK(loss.item<double>() == doctest::Approx(golden.at(name).item<double>()).epsilon(1e-6));
    CHECK(largest_difference(logits.grad(), golden.at(std::string(name) + "_grad").to(at::kDouble)) < 1e-7);
  };
  compare("loss_ce", smoothed_targets(labels, 10, 0));
  compare("loss_smooth_0.1", smoothed_targets(labels, 10, 0.1));
  for (const auto& [name, share] : {std::pair{"0.3", 0.3}, {"1.0", 1.0}}) {
    const at::Tensor targets = mixed_targets(smoothed_targets(labels, 10, 0.1), {share, {}}, 8);
    CHECK(largest_difference(targets, golden.at(std::string("mix_target_") + name)) < 1e-6);
    compare((std::string("loss_soft_") + name).c_str(), targets);
  }

  const at::Tensor pixels = golden.at("mix_input");
  const at::Tensor four = smoothed_targets(at::arange(4, at::kLong), 10, 0.1);
  const Mix mixup{golden.at("mix_mixup_lam").item<double>(), {}};
  CHECK(largest_difference(mixed_images(pixels, mixup, 4), golden.at("mix_mixup_pixels")) < 1e-6);
  CHECK(largest_difference(mixed_targets(four, mixup, 4), golden.at("mix_mixup_target")) < 1e-6);
  const auto* box = golden.at("mix_cutmix_box").const_data_ptr<int64_t>();
  const double corrected = golden.at("mix_cutmix_lam")[1].item<double>();
  CHECK(corrected == doctest::Approx(1 - static_cast<double>((box[1] - box[0]) * (box[3] - box[2])) / 144));
  const Mix cutmix{corrected, std::array<int64_t, 4>{box[0], box[1], box[2], box[3]}};
  CHECK(at::equal(mixed_images(pixels, cutmix, 4), golden.at("mix_cutmix_pixels")));
  CHECK(largest_difference(mixed_targets(four, cutmix, 4), golden.at("mix_cutmix_target")) < 1e-6);
}

TEST_CASE("what is mixed, erased and dropped has the shares that it should have") {
  double share = 0, cut = 0;
  for (uint64_t step = 0; step < 400; ++step) {
    const auto mix = draw_mix(0.8, 1, 30, 40, 5, step);
    CHECK((mix->share >= 0 && mix->share <= 1));
    share += mix->share / 400;
    if (!mix->box) continue;
    cut += 1.0 / 400;
    const auto [top, bottom, left, right] = *mix->box;
    CHECK((0 <= top && top <= bottom && bottom <= 30 && 0 <= left && left <= right && right <= 40));
    CHECK(mix->share == doctest::Approx(1 - static_cast<double>((bottom - top) * (right - left)) / 1200));
  }
  CHECK(std::abs(cut - 0.5) < 0.08);
  CHECK(std::abs(share - 0.55) < 0.08);  // boxes are cut at the border
  CHECK_FALSE(draw_mix(0, 0, 30, 40, 5, 0));
  CHECK_FALSE(draw_mix(1, 0, 30, 40, 5, 0)->box);
  CHECK(draw_mix(0, 1, 30, 40, 5, 0)->box);

  const at::Tensor images = at::ones({300, 3, 30, 40});
  erase_boxes(images, 0.25, 7, 0);
  const at::Tensor erased = images.eq(0).to(at::kDouble).mean(at::IntArrayRef{1, 2, 3});
  CHECK(std::abs(erased.gt(0).to(at::kDouble).mean().item<double>() - 0.25) < 0.08);
  CHECK(erased.max().item<double>() < 0.37);
  CHECK(erased.masked_select(erased.gt(0)).min().item<double>() > 0.015);

  const at::Tensor scales = drop_path_scales(0.4, 3, 2000, 9, 0);
  for (int64_t block = 0; block < 3; ++block) {
    const double rate = drop_path_rate(0.4, block, 3);
    CHECK(std::abs(scales[block].eq(0).to(at::kDouble).mean().item<double>() - rate) < 0.04);
    CHECK(scales[block].max().item<float>() == doctest::Approx(1 / (1 - rate)));
  }
  // By the picture's number alone.
  CHECK(at::equal(drop_path_scales(0.4, 3, 5, 9, 7), scales.slice(2, 7, 12)));
  CHECK_FALSE(drop_path_scales(0, 3, 5, 9, 7).defined());
}

// A classifier whose weights require gradients, on the training engine or on LibTorch's operators.
Classifier trainable(const ClassifierCheckpoint& checkpoint, at::ScalarType type, bool own_blocks) {
  Classifier model(checkpoint, type);
  for (const auto& entry : model.tensors()) at::Tensor(entry.second).requires_grad_(true);
  if (own_blocks) {
    model.vit().blocks().pass =
        std::make_shared<TrainedBlocks>(model.vit().blocks().blocks, Precision::kFloat32);
  }
  return model;
}

TEST_CASE("goldens: the loss on kept patches, its gradients, and two steps with layer-wise decay") {
  const auto folder = golden_folder();
  if (!folder) return;
  const TensorMap golden = read_safetensors((*folder / "downstream/classifier.safetensors").string()).tensors;
  const at::Tensor images =
      read_safetensors((*folder / "full/expected.safetensors").string()).tensors.at("pixel_values");
  const at::Tensor keep = golden.at("keep_98").contiguous();
  const at::Tensor targets = smoothed_targets(golden.at("labels"), 10, 0.1);
  for (const auto& [file, prefix] :
       {std::pair{"mae-finetuned.pth", std::string("mae")}, {"ltrp-classifier.pth", "ltrp"}}) {
    CAPTURE(prefix);
    const auto checkpoint = load_checkpoint<ClassifierConfig>((*folder / "downstream" / file).string());
    for (const auto& [type, own] : {std::pair{at::kDouble, false}, {at::kFloat, false}, {at::kFloat, true}}) {
      CAPTURE(own);
      const Classifier model = trainable(checkpoint, type, own);
      const at::Tensor loss = soft_cross_entropy(model.forward(images, keep), targets.to(type));
      loss.backward();
      CHECK(loss.item<double>() ==
            doctest::Approx(golden.at(prefix + "_loss_98_f64").item<double>()).epsilon(1e-5));
      for (const auto& [name, expected] : golden) {
        const std::string begin = prefix + "_grad_98.";
        if (!name.starts_with(begin)) continue;
        CAPTURE(name);
        const at::Tensor& gradient = model.tensors().at(name.substr(begin.size())).grad();
        CHECK(largest_difference(gradient.to(at::kDouble), expected.to(at::kDouble)) < 1e-5);
      }
    }
  }
  const auto checkpoint =
      load_checkpoint<ClassifierConfig>((*folder / "downstream/ltrp-classifier.pth").string());
  const Classifier model = trainable(checkpoint, at::kFloat, true);
  TrainingOptions options;
  options.beta2 = 0.999;
  options.weight_decay = 0.05;
  options.learning_rate = 2e-3;
  options.steps = 5000;
  options.warmup_steps = 500;
  AdamW optimizer(model.tensors(), options, [](const std::string& name, const at::Tensor& tensor) {
    return layer_decay_rule(name, tensor, 3, 0.65);
  });
  for (const int64_t done : {250, 550}) {
    optimizer.zero_gradients();
    soft_cross_entropy(model.forward(images, keep), targets).backward();
    optimizer.clip(0, {});
    optimizer.update(decayed_learning_rate(options, 1e-6, done));
  }
  for (const auto& [name, expected] : golden) {
    if (!name.starts_with("step_2.")) continue;
    CAPTURE(name);
    CHECK(largest_difference(model.tensors().at(name.substr(7)).detach().to(at::kDouble),
                             expected.to(at::kDouble)) < 1e-5);
  }
}

TEST_CASE("gradients with drop path equal LibTorch's autograd and finite differences, on every parameter") {
  constexpr double kStep = 1e-6;
  for (const Pooling pooling : {Pooling::kCls, Pooling::kMean, Pooling::kNormedMean}) {
    CAPTURE(name_of(pooling));
    ClassifierConfig config = small_config(pooling);
    config.image_height = 8;
    config.image_width = 12;
    config.patch_size = 4;
    config.encoder = {8, 2, 2, 12};
    TensorMap tensors = perturbed(Classifier::initialized(config, 1).tensors(), 1);
    tensors["head.weight"] = random_tensor({3, 8}, 4, at::kFloat);
    // As small as it begins, its norm would multiply float32's rounding by fifty, LibTorch's as ours.
    tensors["cls_token"] = random_tensor({1, 1, 8}, 5, at::kFloat);
    const ClassifierCheckpoint checkpoint{config, tensors, "ltrp"};
    const at::Tensor images = random_tensor({5, 3, 8, 12}, 2, at::kFloat);
    const at::Tensor keep = visible_from_noise(masking_noise(5, 6, 3), 4);
    const at::Tensor scales = drop_path_scales(0.6, 2, 5, 3, 0);
    REQUIRE(scales.eq(0).any().item<bool>());
    const at::Tensor targets = smoothed_targets(at::tensor({0, 1, 2, 1, 0}, at::kLong), 3, 0.1);
    const auto loss_of = [&](const Classifier& model) {
      const at::ScalarType type = model.vit().dtype();
      return soft_cross_entropy(model.forward(images, keep, scales.to(type)), targets.to(type));
    };
    const Classifier exact = trainable(checkpoint, at::kDouble, false),
                     own = trainable(checkpoint, at::kFloat, true);
    loss_of(exact).backward();
    loss_of(own).backward();
    const c10::NoGradGuard no_grad;
    for (const auto& [name, tensor] : exact.tensors()) {
      CAPTURE(name);
      const at::Tensor analytic = tensor.grad();
      CHECK(largest_difference(own.tensors().at(name).grad().to(at::kDouble), analytic) <
            1e-5 * std::max(0.1, analytic.abs().max().item<double>()));
      const at::Tensor values = tensor.detach().view({-1});
      auto* value = values.mutable_data_ptr<double>();
      at::Tensor numeric = at::empty_like(values);
      for (int64_t i = 0; i < values.numel(); ++i) {
        const double before = value[i];
        value[i] = before + kStep;
        const double above = loss_of(exact).item<double>();
        value[i] = before - kStep;
        const double below = loss_of(exact).item<double>();
        value[i] = before;
        numeric[i] = (above - below) / (2 * kStep);
      }
      CHECK(largest_difference(numeric, analytic.reshape({-1})) < 1e-8);
    }
  }
}

TEST_CASE("a batch in pieces gives the same curve, whatever is mixed, erased, dropped and chosen") {
  const Pictures pictures(8, 40, 48, 3);
  const std::vector<Picture> views = labelled(pictures);
  std::vector<double> curves[3];
  for (const int64_t micro : {8, 4, 2}) {
    FinetuneOptions options = finetune_options();
    options.training.batch_size = 8;
    options.training.micro_batch_size = micro;
    options.mixup = 0.8;
    options.cutmix = 1;
    options.erase = 0.5;
    options.drop_path = 0.4;
    options.keep_random = {0.2, 0.9};
    const auto trainer = create_finetuner(options);
    for (int i = 0; i < 6; ++i) {
      const StepResult result = trainer->train_step(views, {});
      curves[micro / 4].push_back(result.loss);
      curves[micro / 4].push_back(result.gradient_norm);
    }
    curves[micro / 4].push_back(*trainer->evaluate(views, {}).loss);
  }
  for (size_t i = 0; i < curves[0].size(); ++i) {
    CHECK(curves[0][i] == doctest::Approx(curves[2][i]).epsilon(1e-4));
    CHECK(curves[1][i] == doctest::Approx(curves[2][i]).epsilon(1e-4));
  }
}

TEST_CASE("fine-tuning learns the pictures' classes, by kept patches, and resumes bit for bit") {
  const ScratchFolder folder;
  const Pictures pictures(6, 40, 48, 3);
  const std::vector<Picture> views = labelled(pictures);
  FinetuneOptions options = finetune_options();
  options.training.steps = 160;
  options.training.crop_scale = {0.9, 1};
  options.training.flip = false;
  options.drop_path = 0.1;
  options.keep_ratio = 0.75;
  options.selector = "variance";
  const auto trainer = create_finetuner(options);
  const EvaluationResult before = trainer->evaluate(views, {});
  for (int i = 0; i < 150; ++i) trainer->train_step(views, {});
  const EvaluationResult after = trainer->evaluate(views, {});
  CAPTURE(*before.loss);
  CAPTURE(*after.loss);
  CHECK(*after.accuracy == 1);
  CHECK(*after.loss < 0.5 * *before.loss);
  trainer->save(folder / "run.safetensors");
  const auto resumed = resume_trainer(folder / "run.safetensors");
  CHECK(resumed->finetune_options()->selector == "variance");
  for (int i = 0; i < 3; ++i)
    CHECK(resumed->train_step(views, {}).loss == trainer->train_step(views, {}).loss);
  trainer->export_model(folder / "model.safetensors", StoredType::kFloat32);
  const auto exported = load_checkpoint<ClassifierConfig>(folder / "model.safetensors");
  CHECK(exported.config == options.model);
  // Positions are trained, too.
  CHECK(!at::equal(exported.tensors.at("pos_embed"),
                   Classifier::initialized(options.model, 0).tensors().at("pos_embed")));
}

TEST_CASE("goldens: a pre-trained masked autoencoder in both variants, and its positions on another grid") {
  const auto folder = golden_folder();
  if (!folder) return;
  const ScratchFolder scratch;
  const TensorMap golden = read_safetensors((*folder / "downstream/classifier.safetensors").string()).tensors;
  const at::Tensor images =
      read_safetensors((*folder / "full/expected.safetensors").string()).tensors.at("pixel_values");
  const std::string init = (*folder / "full/mae-official.pth").string();
  const MaeConfig from = load_checkpoint<MaeConfig>(init, {.incomplete = true}).config;
  FinetuneOptions options;
  static_cast<VitConfig&>(options.model) = from;
  options.model.classes = 10;
  options.init = init;
  for (const auto& [pooling, name] : {std::pair{Pooling::kCls, "pretrained_ltrp_logits_98_f64"},
                                      {Pooling::kMean, "pretrained_mae_logits_98_f64"}}) {
    options.model.pooling = pooling;
    create_finetuner(options)->export_model(scratch / "model.safetensors", StoredType::kFloat32);
    auto begun = load_checkpoint<ClassifierConfig>(scratch / "model.safetensors");
    CHECK(begun.tensors.at("head.weight").std().item<double>() == doctest::Approx(2e-5).epsilon(0.2));
    begun.tensors["head.weight"] = golden.at("pretrained_head_weight");
    begun.tensors["head.bias"] = golden.at("pretrained_head_bias");
    const at::Tensor logits =
        Classifier(begun, at::kDouble).forward(images, golden.at("keep_98").contiguous());
    CHECK(largest_difference(logits, golden.at(name)) < 1e-5);
  }
  options.model.image_height = options.model.image_width = 160;
  create_finetuner(options)->export_model(scratch / "model.safetensors", StoredType::kFloat32);
  CHECK(largest_difference(
            load_checkpoint<ClassifierConfig>(scratch / "model.safetensors").tensors.at("pos_embed"),
            golden.at("pretrained_pos_embed_160")) < 1e-5);
  // A head for other classes begins anew, one for the same classes stays.
  const std::string classifier = (*folder / "downstream/ltrp-classifier.pth").string();
  const auto given = load_checkpoint<ClassifierConfig>(classifier);
  options.init = classifier;
  options.model = given.config;
  create_finetuner(options)->export_model(scratch / "model.safetensors", StoredType::kFloat32);
  check_same(load_checkpoint<ClassifierConfig>(scratch / "model.safetensors").tensors, given.tensors);
  options.model.classes = 4;
  create_finetuner(options)->export_model(scratch / "model.safetensors", StoredType::kFloat32);
  CHECK(load_checkpoint<ClassifierConfig>(scratch / "model.safetensors")
            .tensors.at("head.weight")
            .abs()
            .max()
            .item<double>() < 1e-3);
}

TEST_CASE("a selector's model is asked in training and at evaluation") {
  const ScratchFolder folder;
  const Pictures pictures(6, 40, 48, 3);
  const std::vector<Picture> views = labelled(pictures);
  RankerConfig ranker = small_ranker_config(RankerHead::kToken);
  ranker.mean = {0.3, 0.3, 0.3};  // its own normalisation
  save_checkpoint(folder / "ranker.safetensors", ranker,
                  perturbed(PatchRanker::initialized(ranker, 3).tensors(), 3), StoredType::kFloat32);
  FinetuneOptions options = finetune_options();
  options.selector = "ranker";
  options.selector_model = folder / "ranker.safetensors";
  const auto trainer = create_finetuner(options);
  const StepResult step = trainer->train_step(views, {});
  CHECK(step.applied);
  CHECK(step.gradient_norm > 0);
  // Reading files can be cancelled, afresh and when the run goes on.
  trainer->save(folder / "run");
  const std::atomic<bool> cancelled{true};
  const RunContext stop(&cancelled, nullptr);
  check_refused(codes::kCancelled, "cancelled", [&] { create_finetuner(options, stop); });
  check_refused(codes::kCancelled, "cancelled",
                [&] { resume_trainer(folder / "run", at::kCPU, "{}", stop); });
  options.selector = "random";
  options.selector_model = "";
  CHECK(create_finetuner(options)->train_step(views, {}).loss != step.loss);
}

TEST_CASE(
    "a selector that asks either kind of model says what is wrong with one that it can take neither as") {
  const ScratchFolder folder;
  FinetuneOptions options = finetune_options();
  options.selector = "tome";
  options.selector_model = folder / "ranker.safetensors";
  const RankerConfig ranker = small_ranker_config(RankerHead::kToken);
  save_checkpoint(options.selector_model, ranker, PatchRanker::initialized(ranker, 3).tensors(),
                  StoredType::kFloat32);
  check_refused(codes::kCheckpointContent,
                "asks a classifier or a masked autoencoder. '" + options.selector_model,
                [&] { create_finetuner(options); });
}

TEST_CASE("options, pictures and weights that cannot be are refused in one sentence") {
  const ScratchFolder folder;
  const auto refused = [](const char* part, auto change) {
    FinetuneOptions options = finetune_options();
    change(options);
    CAPTURE(part);
    check_refused(codes::kInvalidArgument, part, [&] { create_finetuner(options); });
  };
  refused("model.classes must be in [2", [](auto& o) { o.model.classes = 1; });
  refused("keepRatio must keep at least one of the 12 patches; got 0.01",
          [](auto& o) { o.keep_ratio = 0.01; });
  refused("keepRandom must keep at least one", [](auto& o) { o.keep_random = {0.001, 1.0}; });
  refused("keepRandom must be [least, most]", [](auto& o) { o.keep_random = {0.5, 0.2}; });
  refused("layerDecay must be in (0, 1]; got 0", [](auto& o) { o.layer_decay = 0; });
  refused("dropPath must be in [0, 1); got 1", [](auto& o) { o.drop_path = 1; });
  refused("batchSize must be even with mixup or cutmix", [](auto& o) {
    o.training.batch_size = o.training.micro_batch_size = 5;
    o.mixup = 1;
  });
  refused("microBatchSize must be even", [](auto& o) {
    o.training.micro_batch_size = 3;
    o.cutmix = 1;
  });
  refused("selector must be one of", [](auto& o) { o.selector = "best"; });
  refused("selectorModel must name the model", [](auto& o) { o.selector = "ranker"; });
  refused("selectorModel must be left out", [](auto& o) { o.selector_model = "x"; });
  const MaeConfig mae = small_mae_config();
  save_checkpoint(folder / "mae.safetensors", mae, MaskedAutoencoder::initialized(mae, 1).tensors(),
                  StoredType::kFloat32);
  refused("has dim 24, depth 2", [&](auto& o) { o.init = folder / "mae.safetensors"; });
  FinetuneOptions from = finetune_options();
  from.model.encoder = mae.encoder;
  from.init = folder / "mae.safetensors";
  const auto trainer = create_finetuner(from);
  const Pictures pictures(6, 40, 48, 3);
  check_refused(codes::kInvalidArgument, "pictures[0].label must say which of the 3 classes",
                [&] { trainer->train_step(pictures.views(), {}); });
  std::vector<Picture> views = labelled(pictures);
  views[4].label = 3;
  check_refused(codes::kInvalidArgument, "pictures[4].label must be in [0, 3); got 3",
                [&] { trainer->evaluate(views, {}); });
}

}  // namespace
}  // namespace ltrp::test
