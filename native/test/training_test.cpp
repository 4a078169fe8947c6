#include <ATen/Parallel.h>
#include <doctest/doctest.h>

#include <filesystem>

#include "core/checkpoint/safetensors.h"
#include "core/error.h"
#include "core/training/augment.h"
#include "core/training/optimizer.h"
#include "core/training/ranker_trainer.h"
#include "test/checkpoint_support.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

PretrainOptions pretrain_options() {
  PretrainOptions options;
  options.model = small_mae_config();
  options.training.batch_size = 6;
  options.training.micro_batch_size = 3;
  options.training.steps = 40;
  options.training.warmup_steps = 4;
  options.training.learning_rate = 3e-3;
  options.training.mask_ratio = 0.6;
  return options;
}

TEST_CASE("the schedule rises linearly, falls as a half-cosine and ends at zero") {
  TrainingOptions options;
  options.steps = 110;
  options.warmup_steps = 10;
  options.learning_rate = 2;
  CHECK(scheduled_learning_rate(options, 0) == doctest::Approx(0.2));
  CHECK(scheduled_learning_rate(options, 9) == doctest::Approx(2));
  CHECK(scheduled_learning_rate(options, 60) == doctest::Approx(1));
  CHECK(scheduled_learning_rate(options, 110) == doctest::Approx(0).epsilon(1e-9));
  options.warmup_steps = 0;
  CHECK(scheduled_learning_rate(options, 0) == doctest::Approx(2));
}

TEST_CASE("warm-up, stable, decay: the length of the run makes no difference before the decay") {
  TrainingOptions options;
  options.schedule = Schedule::kWsd;
  options.steps = 110;
  options.warmup_steps = 10;
  options.decay_steps = 16;
  options.learning_rate = 2;
  CHECK(scheduled_learning_rate(options, 4) == doctest::Approx(1));
  for (const int64_t done : {9, 10, 60, 94}) CHECK(scheduled_learning_rate(options, done) == 2);
  CHECK(scheduled_learning_rate(options, 98) == doctest::Approx(1));    // 4 of 16: 1 - 1/2
  CHECK(scheduled_learning_rate(options, 103) == doctest::Approx(.5));  // 9 of 16: 1 - 3/4
  CHECK(scheduled_learning_rate(options, 110) == 0);
  options.decay_steps = 0;
  CHECK(scheduled_learning_rate(options, 109) == 2);
}

TEST_CASE("AdamW's first steps equal the textbook in float64") {
  const at::Tensor start = random_tensor({3, 4}, 1, at::kFloat),
                   bias_start = random_tensor({4}, 2, at::kFloat);
  TensorMap tensors{
      {"a.weight", start.clone()}, {"a.bias", bias_start.clone()}, {"pos_embed", at::ones({1, 2, 2})}};
  TrainingOptions options;
  options.weight_decay = 0.1;
  AdamW optimizer(tensors, options);
  CHECK_FALSE(tensors["pos_embed"].requires_grad());
  at::Tensor w = start.to(at::kDouble), m = at::zeros_like(w), v = at::zeros_like(w),
             b = bias_start.to(at::kDouble);
  at::Tensor bm = at::zeros_like(b), bv = at::zeros_like(b);
  for (int step = 1; step <= 3; ++step) {
    optimizer.zero_gradients();
    (tensors["a.weight"].square().sum() + (tensors["a.bias"] * step).sum()).backward();
    optimizer.update(0.01);
    const auto adam = [&](at::Tensor& x, at::Tensor& first, at::Tensor& second, const at::Tensor& g,
                          double decay) {
      x = x * (1 - 0.01 * decay);
      first = 0.9 * first + 0.1 * g;
      second = 0.95 * second + 0.05 * g * g;
      x = x -
          0.01 * (first / (1 - std::pow(0.9, step))) / ((second / (1 - std::pow(0.95, step))).sqrt() + 1e-8);
    };
    adam(w, m, v, 2 * w, 0.1);
    adam(b, bm, bv, at::full_like(b, step), 0);
  }
  CHECK(largest_difference(tensors["a.weight"].detach().to(at::kDouble), w) < 1e-5);
  CHECK(largest_difference(tensors["a.bias"].detach().to(at::kDouble), b) < 1e-5);
}

TEST_CASE("random crops stay inside any picture and within the asked area") {
  for (const auto& [height, width] :
       {std::pair<int64_t, int64_t>{1, 1}, {3, 500}, {480, 640}, {1000, 17}, {224, 224}}) {
    for (uint64_t seed = 0; seed < 200; ++seed) {
      at::Generator generator = generator_for(seed, 0);
      bool flip = false;
      const CropBox box = random_crop_box(height, width, {0.2, 1.0, true}, generator, flip);
      const bool inside = box.top >= 0 && box.left >= 0 && box.height >= 1 && box.width >= 1 &&
                          box.top + box.height <= height && box.left + box.width <= width;
      CHECK(inside);
      if (height == 480) {
        const double share = static_cast<double>(box.height * box.width) / (480.0 * 640.0);
        CHECK((share > 0.19 && share <= 1.0));
      }
    }
  }
}

TEST_CASE("pre-training reduces its loss, in float32 and with bfloat16 products") {
  const Pictures pictures(6, 40, 48, 3);
  for (const TrainingPrecision precision : {TrainingPrecision::kFloat32, TrainingPrecision::kBFloat16}) {
    PretrainOptions options = pretrain_options();
    options.training.precision = precision;
    options.training.steps = 80;
    options.training.crop_scale[0] = 0.8;
    const auto trainer = create_pretrainer(options);
    const double before = *trainer->evaluate(pictures.views(), {}).reconstruction_error;
    for (int i = 0; i < 80; ++i) trainer->train_step(pictures.views(), {});
    const double after = *trainer->evaluate(pictures.views(), {}).reconstruction_error;
    CAPTURE(before);
    CAPTURE(after);
    CHECK(after < 0.7 * before);
    CHECK_THROWS_AS(trainer->train_step(pictures.views(), {}), Error);
  }
}

TEST_CASE("gradient accumulation: the micro-batch does not change the step") {
  const Pictures pictures(6, 40, 48, 3);
  double norms[2], losses[2];
  for (const int64_t micro : {6, 2}) {
    PretrainOptions options = pretrain_options();
    options.training.micro_batch_size = micro;
    const auto trainer = create_pretrainer(options);
    const StepResult result = trainer->train_step(pictures.views(), {});
    norms[micro == 6] = result.gradient_norm;
    losses[micro == 6] = result.loss;
  }
  CHECK(losses[0] == doctest::Approx(losses[1]).epsilon(1e-6));
  CHECK(norms[0] == doctest::Approx(norms[1]).epsilon(1e-5));
}

TEST_CASE("a saved run continues bit for bit, and a cancelled step leaves no trace") {
  const ScratchFolder folder;
  const Pictures pictures(6, 40, 48, 3);
  const auto whole = create_pretrainer(pretrain_options());
  std::vector<double> expected;
  for (int i = 0; i < 8; ++i) expected.push_back(whole->train_step(pictures.views(), {}).loss);

  const auto first = create_pretrainer(pretrain_options());
  for (int i = 0; i < 4; ++i)
    CHECK(first->train_step(pictures.views(), {}).loss == expected[static_cast<size_t>(i)]);
  std::atomic<bool> cancelled{true};
  CHECK_THROWS_AS(first->train_step(pictures.views(), RunContext(&cancelled, nullptr)), Error);
  first->save(folder / "run.safetensors");
  const auto second = resume_trainer(folder / "run.safetensors");
  CHECK(second->step() == 4);
  CHECK(second->pretrain_options()->model == small_mae_config());
  for (size_t i = 4; i < 8; ++i) CHECK(second->train_step(pictures.views(), {}).loss == expected[i]);
}

TEST_CASE("the ranker learns its teacher's order, resumes bit for bit and refuses another teacher") {
  const ScratchFolder folder;
  const Pictures pictures(6, 40, 48, 3);
  const std::string teacher = folder / "teacher.safetensors";
  {
    PretrainOptions options = pretrain_options();
    options.training.steps = 60;
    const auto trainer = create_pretrainer(options);
    for (int i = 0; i < 60; ++i) trainer->train_step(pictures.views(), {});
    trainer->export_model(teacher, StoredType::kFloat32);
  }
  for (const RankerInput input : {RankerInput::kVisible, RankerInput::kFull}) {
    RankerTrainingOptions options;
    options.training = pretrain_options().training;
    options.training.steps = 120;
    options.training.mask_ratio = 0.5;
    options.training.crop_scale[0] = 0.8;
    options.model = small_ranker_config(RankerHead::kToken);
    options.teacher = teacher;
    options.input = input;
    const auto trainer = create_ranker_trainer(options);
    const EvaluationResult before = trainer->evaluate(pictures.views(), {});
    for (int i = 0; i < 118; ++i) trainer->train_step(pictures.views(), {});
    const EvaluationResult after = trainer->evaluate(pictures.views(), {});
    CAPTURE(*before.kendall_tau);
    CAPTURE(*after.kendall_tau);
    CHECK(*after.loss < *before.loss);
    CHECK(*after.kendall_tau > *before.kendall_tau + 0.1);
    trainer->save(folder / "ranker.safetensors");
    const auto resumed = resume_trainer(folder / "ranker.safetensors");
    CHECK(resumed->train_step(pictures.views(), {}).loss == trainer->train_step(pictures.views(), {}).loss);
    // The teacher is known by what it is, not by how many threads look at it.
    const std::string fingerprint = RankerTrainer(options, {}).teacher_fingerprint();
    const int threads = at::get_num_threads();
    at::set_num_threads(threads == 1 ? 2 : 1);
    CHECK(RankerTrainer(options, {}).teacher_fingerprint() == fingerprint);
    at::set_num_threads(threads);
  }
  create_pretrainer(pretrain_options())->export_model(teacher, StoredType::kFloat32);
  CHECK_THROWS_AS(resume_trainer(folder / "ranker.safetensors"), Error);
}

TEST_CASE("a loss of drawn items is validated alike however the pictures are split") {
  const ScratchFolder folder;
  const Pictures pictures(6, 40, 48, 3);
  const std::string teacher = folder / "teacher.safetensors";
  create_pretrainer(pretrain_options())->export_model(teacher, StoredType::kFloat32);
  double losses[2];
  for (const int64_t micro : {6, 2}) {
    RankerTrainingOptions options;
    options.training = pretrain_options().training;
    options.training.mask_ratio = 0.5;
    options.training.micro_batch_size = micro;
    options.model = small_ranker_config(RankerHead::kToken);
    options.teacher = teacher;
    options.loss_k = 3;
    losses[micro == 6] = *create_ranker_trainer(options)->evaluate(pictures.views(), {}).loss;
  }
  CHECK(losses[0] == doctest::Approx(losses[1]).epsilon(1e-6));
}

TEST_CASE("a ranker can start as its teacher's first blocks, of the same width only") {
  const ScratchFolder folder;
  const std::string teacher = folder / "teacher.safetensors";
  create_pretrainer(pretrain_options())->export_model(teacher, StoredType::kFloat32);
  RankerTrainingOptions options;
  options.training = pretrain_options().training;
  options.teacher = teacher;
  options.start = RankerStart::kTeacher;
  options.model = small_ranker_config(RankerHead::kToken);
  CHECK_THROWS_AS(create_ranker_trainer(options), Error);
  options.model.encoder = small_mae_config().encoder;
  options.model.encoder.depth = 1;
  create_ranker_trainer(options)->export_model(folder / "ranker.safetensors", StoredType::kFloat32);
  const MaeCheckpoint from = load_checkpoint<MaeConfig>(teacher);
  const RankerCheckpoint to = load_checkpoint<RankerConfig>(folder / "ranker.safetensors");
  CHECK(at::equal(to.tensors.at("blocks.0.mlp.fc1.weight"), from.tensors.at("blocks.0.mlp.fc1.weight")));
  CHECK(at::equal(to.tensors.at("patch_embed.proj.weight"), from.tensors.at("patch_embed.proj.weight")));
  options.model.encoder.depth = 3;
  CHECK_THROWS_AS(create_ranker_trainer(options), Error);
}

TEST_CASE("bad options and damaged training checkpoints are refused") {
  const ScratchFolder folder;
  const auto refused = [](auto change) {
    PretrainOptions options = pretrain_options();
    change(options);
    CHECK_THROWS_AS(create_pretrainer(options), Error);
  };
  refused([](PretrainOptions& o) { o.training.batch_size = 0; });
  refused([](PretrainOptions& o) { o.training.micro_batch_size = 7; });
  refused([](PretrainOptions& o) { o.training.learning_rate = std::nan(""); });
  refused([](PretrainOptions& o) { o.training.mask_ratio = 1; });
  refused([](PretrainOptions& o) { o.training.crop_scale[0] = 0; });
  refused([](PretrainOptions& o) { o.model.decoder.reset(); });
  const auto trainer = create_pretrainer(pretrain_options());
  trainer->save(folder / "run.safetensors");
  SafetensorsFile file = read_safetensors(folder / "run.safetensors");
  file.tensors.erase("model/norm.weight");
  write_safetensors(folder / "less.safetensors", file.tensors, file.metadata);
  CHECK_THROWS_AS(resume_trainer(folder / "less.safetensors"), Error);
  file.metadata.erase("options");
  write_safetensors(folder / "none.safetensors", file.tensors, file.metadata);
  CHECK_THROWS_AS(resume_trainer(folder / "none.safetensors"), Error);
  CHECK_THROWS_AS(resume_trainer(folder / "absent.safetensors"), Error);
  const Pictures few(5, 40, 48, 3);
  CHECK_THROWS_AS(trainer->train_step(few.views(), {}), Error);
}

}  // namespace
}  // namespace ltrp::test
