// Training on this device: the same curve as on the CPU, and checkpoints that go on on either.
#include <cmath>
#include <filesystem>
#include <memory>
#include <vector>

#include "core/checkpoint/checkpoint.h"
#include "core/training/trainer.h"
#include "test/checkpoint_support.h"
#include "test/core_support.h"
#include "test/cuda/device_tensors.h"
#include "test/cuda/with_cuda.h"

namespace ltrp::test {
namespace {

constexpr int kSteps = 4;

TrainingOptions short_run() {
  TrainingOptions training;
  training.batch_size = 4;
  training.micro_batch_size = 2;
  training.steps = kSteps;
  training.warmup_steps = 1;
  training.mask_ratio = 0.6;
  training.clip_gradient_norm = 0.5;
  return training;
}

PretrainOptions pretraining() {
  PretrainOptions options;
  options.model = small_mae_config();
  options.training = short_run();
  return options;
}

// Losses of some steps and the held-out loss behind them.
std::vector<double> curve(Trainer& trainer, const Pictures& pictures, int steps) {
  std::vector<double> losses;
  for (int i = 0; i < steps; ++i) {
    const StepResult step = trainer.train_step(pictures.views(), {});
    losses.push_back(step.loss);
    losses.push_back(step.gradient_norm);
  }
  losses.push_back(*trainer.evaluate(pictures.views(), {}).loss);
  return losses;
}

void check_same(const std::vector<double>& got, const std::vector<double>& want) {
  REQUIRE(got.size() == want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    CAPTURE(i);
    CHECK(got[i] == doctest::Approx(want[i]).epsilon(1e-3));
  }
}

TEST_CASE("pre-training and the training of a ranker follow the CPU's curve") {
  const Pictures pictures(4, 40, 48, 3);
  const ScratchFolder folder;
  const std::string teacher = folder / "teacher.safetensors";
  PretrainOptions pretrain = pretraining();
  const auto on_cpu = create_pretrainer(pretrain);
  const std::vector<double> want = curve(*on_cpu, pictures, kSteps);
  on_cpu->export_model(teacher, StoredType::kFloat32);
  {
    const WithCuda with;
    pretrain.training.device = device();
    check_same(curve(*create_pretrainer(pretrain), pictures, kSteps), want);
  }
  for (const RankingLoss loss : {RankingLoss::kListMle, RankingLoss::kRankNet, RankingLoss::kFocusedRank}) {
    RankerTrainingOptions options;
    options.training = short_run();
    options.model = small_ranker_config(RankerHead::kToken);
    options.teacher = teacher;
    options.loss = loss;
    if (loss == RankingLoss::kFocusedRank) options.loss_k = 2;
    const std::vector<double> of_cpu = curve(*create_ranker_trainer(options), pictures, kSteps);
    const WithCuda with;
    options.training.device = device();
    check_same(curve(*create_ranker_trainer(options), pictures, kSteps), of_cpu);
  }
}

TEST_CASE("a run saved here goes on on the CPU, and the other way round") {
  const Pictures pictures(4, 40, 48, 3);
  const ScratchFolder folder;
  const std::string path = folder / "step-2.safetensors";
  PretrainOptions options = pretraining();
  const std::vector<double> want = curve(*create_pretrainer(options), pictures, kSteps);
  const std::vector<double> rest(want.begin() + 4, want.end());
  {
    const WithCuda with;
    options.training.device = device();
    const auto here = create_pretrainer(options);
    curve(*here, pictures, 2);
    here->save(path);
  }
  check_same(curve(*resume_trainer(path), pictures, kSteps - 2), rest);
  options.training.device = at::kCPU;
  const auto there = create_pretrainer(options);
  curve(*there, pictures, 2);
  there->save(path);
  const WithCuda with;
  check_same(curve(*resume_trainer(path, device()), pictures, kSteps - 2), rest);
}

}  // namespace
}  // namespace ltrp::test
