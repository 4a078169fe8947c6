// What a training run keeps, refuses to keep, and may begin from or change when it goes on.
#include <doctest/doctest.h>

#include <cmath>
#include <string>

#include "core/checkpoint/safetensors.h"
#include "core/error.h"
#include "core/training/optimizer.h"
#include "test/checkpoint_support.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

PretrainOptions small_run() {
  PretrainOptions options;
  options.model = small_mae_config();
  options.training.batch_size = 4;
  options.training.micro_batch_size = 4;
  options.training.steps = 40;
  options.training.warmup_steps = 0;
  options.training.mask_ratio = 0.6;
  return options;
}

// The code of what `function` throws; empty when it does not.
template <typename Function>
std::string code_of(Function function) {
  try {
    function();
  } catch (const Error& error) {
    return error.code();
  }
  return "";
}

bool same_tensors(const TensorMap& a, const TensorMap& b) {
  if (a.size() != b.size()) return false;
  for (const auto& [name, tensor] : a) {
    if (!b.contains(name) || !at::equal(tensor, b.at(name))) return false;
  }
  return true;
}

// Saves a trainer with tensors that `change` made others, as versions without a checksum wrote it.
template <typename Function>
void save_with(const Trainer& trainer, const std::string& path, Function change) {
  trainer.save(path);
  SafetensorsFile file = read_safetensors(path);
  change(file.tensors);
  file.metadata.erase("checksum");
  write_safetensors(path, file.tensors, file.metadata);
}

TEST_CASE(
    "a step whose gradient is not finite leaves weights and optimizer as they were, and the run goes on") {
  const ScratchFolder folder;
  const Pictures pictures(4, 40, 48, 3);
  const auto before = create_pretrainer(small_run());
  REQUIRE(before->train_step(pictures.views(), {}).applied);
  save_with(*before, folder / "before", [](TensorMap& tensors) {
    tensors.at("model/blocks.0.mlp.fc2.weight").fill_(3e38F);  // its products go beyond float32
  });
  const auto trainer = resume_trainer(folder / "before");
  const StepResult result = trainer->train_step(pictures.views(), {});
  CHECK_FALSE(result.applied);
  CHECK_FALSE((std::isfinite(result.loss) && std::isfinite(result.gradient_norm)));
  CHECK(result.step == 2);
  trainer->save(folder / "after");
  CHECK(
      same_tensors(read_safetensors(folder / "before").tensors, read_safetensors(folder / "after").tensors));
}

TEST_CASE("nothing that is not finite is saved or resumed from") {
  const ScratchFolder folder;
  const auto trainer = create_pretrainer(small_run());
  for (const char* name : {"model/cls_token", "adam_v/norm.weight"}) {
    for (const double value : {std::nan(""), HUGE_VAL}) {
      save_with(*trainer, folder / "bad",
                [&](TensorMap& tensors) { tensors.at(name).view({-1})[0] = value; });
      CHECK(code_of([&] { resume_trainer(folder / "bad"); }) == codes::kCheckpointContent);
    }
  }
  // Decay takes the weights beyond float32 though their gradient was finite.
  save_with(*trainer, folder / "large", [](TensorMap& tensors) {
    // Nothing behind the last layer has a gradient; a row of a key makes attention a choice, whose values are
    // finite.
    tensors.at("model/decoder_pred.weight").zero_();
    tensors.at("model/blocks.0.attn.qkv.weight").narrow(0, 24, 1).mul_(1e31);
  });
  const auto wild =
      resume_trainer(folder / "large", at::kCPU, R"({"learningRate": 1e6, "weightDecay": 1e6})");
  const Pictures pictures(4, 40, 48, 3);
  CHECK(wild->train_step(pictures.views(), {}).applied);
  const std::string before = folder / "wild";
  CHECK(code_of([&] { wild->save(before); }) == codes::kDiverged);
  CHECK(code_of([&] { resume_trainer(before); }) == codes::kFileNotFound);
}

TEST_CASE("a training checkpoint whose bytes have changed is refused, one without a checksum is not") {
  const ScratchFolder folder;
  const auto trainer = create_pretrainer(small_run());
  trainer->save(folder / "run");
  const SafetensorsFile whole = read_safetensors(folder / "run");
  const auto changed = [&](auto change) {
    SafetensorsFile file = read_safetensors(folder / "run");
    change(file);
    write_safetensors(folder / "changed", file.tensors, file.metadata);
    return code_of([&] { resume_trainer(folder / "changed"); });
  };
  CHECK(changed([](SafetensorsFile&) {}) == "");
  CHECK(changed([](SafetensorsFile& f) { f.metadata.erase("checksum"); }) == "");
  CHECK(changed([](SafetensorsFile& f) { f.metadata["step"] = "1"; }) == codes::kCheckpointFormat);
  CHECK(changed([](SafetensorsFile& f) { f.tensors.at("model/mask_token").zero_(); }) ==
        codes::kCheckpointFormat);
  // One bit of one value.
  CHECK(changed([](SafetensorsFile& f) {
          auto* bits =
              static_cast<uint32_t*>(f.tensors.at("model/blocks.1.mlp.fc2.weight").mutable_data_ptr());
          bits[17] ^= 1;
        }) == codes::kCheckpointFormat);
  CHECK(changed([](SafetensorsFile& f) {
          std::swap(f.tensors.at("model/blocks.0.mlp.fc1.bias"), f.tensors.at("model/blocks.1.mlp.fc1.bias"));
          f.tensors.at("model/blocks.0.mlp.fc1.bias").add_(1);
        }) == codes::kCheckpointFormat);
}

TEST_CASE("a resumed run takes another length, rate and clipping, and not fewer steps than are done") {
  const ScratchFolder folder;
  const Pictures pictures(4, 40, 48, 3);
  const auto trainer = create_pretrainer(small_run());
  for (int i = 0; i < 3; ++i) trainer->train_step(pictures.views(), {});
  trainer->save(folder / "run");
  const auto resumed =
      resume_trainer(folder / "run", at::kCPU,
                     R"({"steps": 100, "warmupSteps": 10, "learningRate": 7e-4, "clipGradientNorm": 1e-3})");
  const TrainingOptions now = resumed->pretrain_options()->training;
  CHECK(now.steps == 100);
  CHECK(resumed->train_step(pictures.views(), {}).learning_rate == scheduled_learning_rate(now, 3));
  CHECK(scheduled_learning_rate(now, 3) == doctest::Approx(7e-4 * 0.4));
  // What it was changed to is saved with it.
  resumed->save(folder / "changed");
  const auto again = resume_trainer(folder / "changed");
  CHECK(again->pretrain_options()->training.clip_gradient_norm == 1e-3);
  CHECK(again->pretrain_options()->training.seed == small_run().training.seed);
  CHECK_FALSE(resume_trainer(folder / "changed", at::kCPU, R"({"clipGradientNorm": null})")
                  ->pretrain_options()
                  ->training.clip_gradient_norm);
  for (const char* wrong : {R"({"steps": 1})", R"({"steps": 2})", R"({"seed": 1})", R"({"init": "x"})",
                            R"({"steps": "3"})", R"({"beta1": 1})", R"({"precision": "int8"})", "7"}) {
    CAPTURE(wrong);
    CHECK(code_of([&] { resume_trainer(folder / "run", at::kCPU, wrong); }) == codes::kInvalidArgument);
  }
  CHECK(resume_trainer(folder / "run", at::kCPU, R"({"steps": 3})")->step() == 3);
}

TEST_CASE("a run begins from given weights of its geometry, on any grid, also from an encoder alone") {
  const ScratchFolder folder;
  PretrainOptions options = small_run();
  options.training.seed = 5;
  create_pretrainer(options)->export_model(folder / "given.safetensors", StoredType::kFloat32);
  const TensorMap given = load_checkpoint<MaeConfig>(folder / "given.safetensors").tensors;

  options.training.seed = 6;
  options.init = folder / "given.safetensors";
  create_pretrainer(options)->export_model(folder / "same.safetensors", StoredType::kFloat32);
  CHECK(same_tensors(load_checkpoint<MaeConfig>(folder / "same.safetensors").tensors, given));

  PretrainOptions larger = options;
  larger.model.image_height = 48;
  create_pretrainer(larger)->export_model(folder / "larger.safetensors", StoredType::kFloat32);
  const TensorMap on_larger = load_checkpoint<MaeConfig>(folder / "larger.safetensors").tensors;
  CHECK(at::equal(on_larger.at("blocks.0.attn.qkv.weight"), given.at("blocks.0.attn.qkv.weight")));
  CHECK(on_larger.at("pos_embed").size(1) == 1 + 6 * 4);

  MaeConfig encoder = options.model;
  encoder.decoder.reset();
  TensorMap alone;
  for (const auto& [name, tensor] : given) {
    if (!name.starts_with("decoder_") && name != "mask_token") alone.emplace(name, tensor);
  }
  save_checkpoint(folder / "encoder.safetensors", encoder, alone, StoredType::kFloat32);
  options.init = folder / "encoder.safetensors";
  const auto trainer = create_pretrainer(options);
  trainer->export_model(folder / "half.safetensors", StoredType::kFloat32);
  const TensorMap half = load_checkpoint<MaeConfig>(folder / "half.safetensors").tensors;
  CHECK(at::equal(half.at("norm.weight"), given.at("norm.weight")));
  CHECK(at::equal(half.at("patch_embed.proj.weight"), given.at("patch_embed.proj.weight")));
  CHECK_FALSE(at::equal(half.at("decoder_embed.weight"), given.at("decoder_embed.weight")));
  CHECK(trainer->train_step(Pictures(4, 40, 48, 3).views(), {}).applied);

  // The weights are taken once: a resumed run has its own, and needs no file.
  trainer->save(folder / "run");
  std::filesystem::remove(folder / "encoder.safetensors");
  CHECK(resume_trainer(folder / "run")->step() == 1);

  options.init = folder / "given.safetensors";
  options.model.encoder.depth = 1;
  CHECK(code_of([&] { create_pretrainer(options); }) == codes::kInvalidArgument);
}

TEST_CASE("a ranker begins from a ranker of the same head") {
  const ScratchFolder folder;
  create_pretrainer(small_run())->export_model(folder / "teacher.safetensors", StoredType::kFloat32);
  RankerTrainingOptions options;
  options.training = small_run().training;
  options.training.seed = 8;
  options.teacher = folder / "teacher.safetensors";
  options.model = small_ranker_config(RankerHead::kToken);
  create_ranker_trainer(options)->export_model(folder / "given.safetensors", StoredType::kFloat32);
  options.training.seed = 9;
  options.init = folder / "given.safetensors";
  create_ranker_trainer(options)->export_model(folder / "same.safetensors", StoredType::kFloat32);
  CHECK(same_tensors(load_checkpoint<RankerConfig>(folder / "given.safetensors").tensors,
                     load_checkpoint<RankerConfig>(folder / "same.safetensors").tensors));
  options.model.head = RankerHead::kCls;
  CHECK(code_of([&] { create_ranker_trainer(options); }) == codes::kInvalidArgument);
  options.init = folder / "teacher.safetensors";
  CHECK(code_of([&] { create_ranker_trainer(options); }) == codes::kCheckpointContent);

  // A teacher that has moved is the same teacher.
  options = RankerTrainingOptions(options);
  options.init.clear();
  const auto trainer = create_ranker_trainer(options);
  trainer->save(folder / "run");
  std::filesystem::rename(folder / "teacher.safetensors", folder / "moved.safetensors");
  const std::string moved = folder / "moved.safetensors";
  const auto resumed = resume_trainer(folder / "run", at::kCPU, R"({"teacher": ")" + moved + "\"}");
  CHECK(resumed->ranker_options()->teacher == moved);
  CHECK(code_of([&] { resume_trainer(folder / "run"); }) == codes::kFileNotFound);
}

}  // namespace
}  // namespace ltrp::test
