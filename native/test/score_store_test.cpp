// Stored score maps: the crops they are of, the files they are in, and rankers that learn from them.
#include "core/training/score_store.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "core/engine/score_map.h"
#include "kernels/pixels.h"
#include "test/checkpoint_support.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

ScoreStoreOptions store_options() {
  ScoreStoreOptions options;
  options.crops = 3;
  options.rounds = 2;
  options.mask_ratio = 0.6;
  options.seed = 5;
  return options;
}

std::string code_of(const std::function<void()>& function) {
  try {
    function();
  } catch (const Error& error) {
    return error.code();
  }
  return "";
}

// The bytes [h, w, 3] of a stored crop at the model's image size, by the resampling alone.
at::Tensor bytes_of(const Picture& picture, const at::Tensor& crop, const MaeConfig& model) {
  const auto* box = crop.const_data_ptr<int32_t>();
  at::Tensor bytes = at::empty({model.image_height, model.image_width, 3}, at::kByte);
  crop_resize_bicubic(picture.pixels, picture.height, picture.width, {box[0], box[1], box[2], box[3]},
                      model.image_height, model.image_width, box[4] == 1, bytes.mutable_data_ptr<uint8_t>());
  return bytes;
}

TEST_CASE("a stored map is the score map of the stored crop under the stored seed, to the last bit") {
  const MaskedAutoencoder mae = small_mae(at::kFloat);
  const Pictures pictures(4, 60, 48, 3);
  const std::vector<int64_t> numbers{7, 8, 12, 13};
  const ScoreStoreOptions options = store_options();
  const StoredScores maps = score_crops(mae, pictures.views(), numbers, options, {});
  REQUIRE(maps.scores.sizes() == at::IntArrayRef{12, 12});
  int64_t flips = 0;
  for (int64_t row = 0; row < 12; ++row) {
    const Picture& picture = pictures.views()[static_cast<size_t>(row / 3)];
    const at::Tensor bytes = bytes_of(picture, maps.crops[row], mae.config());
    ScoreMapOptions map_options;
    map_options.scores = options.scores;
    map_options.mask_ratio = options.mask_ratio;
    map_options.rounds = options.rounds;
    map_options.seed = static_cast<uint64_t>(maps.seeds[row].item<int64_t>());
    const at::Tensor image = normalize_pixels(bytes.unsqueeze(0), mae.config().mean, mae.config().std);
    const ScoreMap again = score_map(mae, image, map_options, {});
    CHECK(at::equal(again.mean.reshape({12}), maps.scores[row]));
    flips += maps.crops[row][4].item<int32_t>();
  }
  CHECK((flips > 0 && flips < 12));
  CHECK(maps.sizes[3][0].item<int32_t>() == 60);
  CHECK(maps.sizes[3][1].item<int32_t>() == 48);
  // Crops and seeds are all different, and a picture's do not depend on which others are scored with it.
  for (const at::Tensor& drawn : {maps.crops.slice(1, 0, 4), maps.seeds.view({12, 1})})
    CHECK(std::get<0>(at::unique_dim(drawn.to(at::kDouble), 0)).size(0) == 12);
  const StoredScores one =
      score_crops(mae, std::span(pictures.views()).subspan(2, 1), std::vector<int64_t>{12}, options, {});
  CHECK(at::equal(one.scores, maps.scores.slice(0, 6, 9)));
  CHECK(at::equal(one.crops, maps.crops.slice(0, 6, 9)));
}

TEST_CASE("a shard is read as it was written; another file and a changed byte are refused") {
  const ScratchFolder folder;
  const MaskedAutoencoder mae = small_mae(at::kFloat);
  const Pictures pictures(2, 60, 48, 3);
  const StoredScores maps =
      score_crops(mae, pictures.views(), std::vector<int64_t>{0, 1}, store_options(), {});
  const std::string path = folder / "shard.safetensors";
  write_score_shard(path, maps, {{"teacher", "x"}}, {});
  std::map<std::string, std::string> metadata;
  const StoredScores read = read_score_shard(path, metadata, {});
  CHECK(at::equal(read.scores, maps.scores));
  CHECK(at::equal(read.crops, maps.crops));
  CHECK(at::equal(read.seeds, maps.seeds));
  CHECK(at::equal(read.sizes, maps.sizes));
  CHECK(metadata["teacher"] == "x");
  const auto code = [&](const std::string& file) {
    return code_of([&] { read_score_shard(file, metadata, {}); });
  };
  // None of whose pictures could be read.
  write_score_shard(folder / "empty", score_crops(mae, {}, {}, store_options(), {}), {}, {});
  CHECK(read_score_shard(folder / "empty", metadata, {}).scores.size(0) == 0);
  write_safetensors(folder / "other", {{"scores", maps.scores}}, {});
  CHECK(code(folder / "other") == codes::kCheckpointContent);
  CHECK(code(folder / "none") == codes::kFileNotFound);
  // Top, left, height, width, mirrored.
  for (const auto& [column, value] : {std::pair{0, -1}, {1, 48}, {2, 61}, {3, 0}, {4, 2}}) {
    StoredScores moved = maps;
    moved.crops = maps.crops.clone();
    moved.crops[1][column] = value;
    write_score_shard(folder / "moved", moved, {}, {});
    CHECK(code(folder / "moved") == codes::kCheckpointContent);
  }
  const auto end = static_cast<std::streamoff>(fs::file_size(path));
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(end - 1);
  const auto byte = static_cast<char>(file.get() ^ 1);
  file.seekp(end - 1);
  file.put(byte);
  file.close();
  CHECK(code(path) == codes::kCheckpointFormat);
}

TEST_CASE("options of a store that cannot be are refused") {
  const MaskedAutoencoder mae = small_mae(at::kFloat);
  const auto refused = [&](auto change) {
    ScoreStoreOptions options = store_options();
    change(options);
    CHECK(code_of([&] { score_crops(mae, {}, {}, options, {}); }) == codes::kInvalidArgument);
  };
  refused([](ScoreStoreOptions& o) { o.crops = 0; });
  refused([](ScoreStoreOptions& o) { o.crop_scale[0] = 0; });
  refused([](ScoreStoreOptions& o) { o.rounds = 0; });
  refused([](ScoreStoreOptions& o) { o.mask_ratio = 1; });
}

RankerTrainingOptions maps_run() {
  RankerTrainingOptions options;
  options.model = small_ranker_config(RankerHead::kToken);
  options.training.batch_size = 4;
  options.training.micro_batch_size = 2;
  options.training.steps = 120;
  options.training.warmup_steps = 4;
  options.training.learning_rate = 3e-3;
  options.targets = RankerTargets::kMaps;
  options.input = RankerInput::kFull;
  return options;
}

// Four pictures with the first of their stored crops.
struct Scored {
  Pictures pictures{4, 60, 48, 3};
  StoredScores maps = score_crops(small_mae(at::kFloat), pictures.views(), std::vector<int64_t>{0, 1, 2, 3},
                                  store_options(), {});

  std::vector<Picture> views() const {
    std::vector<Picture> result = pictures.views();
    for (size_t i = 0; i < result.size(); ++i) {
      const auto row = static_cast<int64_t>(3 * i);
      const auto* crop = maps.crops[row].const_data_ptr<int32_t>();
      result[i].scored = ScoredCrop{{crop[0], crop[1], crop[2], crop[3]},
                                    crop[4] == 1,
                                    {maps.scores.const_data_ptr<float>() + row * 12, 12}};
    }
    return result;
  }
};

TEST_CASE("a ranker learns stored maps with every loss, and resumes bit for bit") {
  const ScratchFolder folder;
  const Scored scored;
  // An untrained teacher's scores differ by less than what rankNet calls a tie.
  at::Tensor scores = scored.maps.scores;
  scores.copy_((scores - scores.mean(1, true)) / scores.std(1, true, true));
  const std::vector<Picture> views = scored.views();
  for (const auto& loss : Names<RankingLoss>::all) {
    CAPTURE(loss.name);
    RankerTrainingOptions options = maps_run();
    options.loss = loss.value;
    if (loss.value == RankingLoss::kFocusedRank) options.loss_k = 4;
    const auto trainer = create_ranker_trainer(options);
    const EvaluationResult before = trainer->evaluate(views, {});
    for (int i = 0; i < 118; ++i) trainer->train_step(views, {});
    const EvaluationResult after = trainer->evaluate(views, {});
    CHECK(*after.loss < *before.loss);
    CHECK(*after.kendall_tau > *before.kendall_tau + 0.2);
    CHECK(*after.ndcg > *before.ndcg);
    trainer->save(folder / "run");
    const auto resumed = resume_trainer(folder / "run");
    CHECK(resumed->ranker_options()->targets == RankerTargets::kMaps);
    CHECK(resumed->train_step(views, {}).loss == trainer->train_step(views, {}).loss);
  }
}

TEST_CASE("training on a stored crop is training on its pixels") {
  const Scored scored;
  const std::vector<Picture> views = scored.views();
  // The same crops, cut out and mirrored before: pictures of the model's size that are taken whole.
  std::vector<at::Tensor> bytes;
  std::vector<Picture> cut;
  for (size_t i = 0; i < views.size(); ++i) {
    bytes.push_back(bytes_of(views[i], scored.maps.crops[static_cast<int64_t>(3 * i)], small_mae_config()));
    cut.push_back({bytes.back().const_data_ptr<uint8_t>(), 24, 32});
    cut.back().scored = ScoredCrop{{0, 0, 24, 32}, false, views[i].scored->scores};
  }
  const auto a = create_ranker_trainer(maps_run()), b = create_ranker_trainer(maps_run());
  CHECK(*a->evaluate(views, {}).loss == *b->evaluate(cut, {}).loss);
  for (int i = 0; i < 3; ++i) CHECK(a->train_step(views, {}).loss == b->train_step(cut, {}).loss);
}

TEST_CASE("a run on maps has no teacher, and pictures bring maps where they are asked for") {
  const Scored scored;
  const auto refused = [](auto change) {
    RankerTrainingOptions options = maps_run();
    change(options);
    CHECK(code_of([&] { create_ranker_trainer(options); }) == codes::kInvalidArgument);
  };
  refused([](RankerTrainingOptions& o) { o.input = RankerInput::kVisible; });
  refused([](RankerTrainingOptions& o) { o.start = RankerStart::kTeacher; });
  refused([](RankerTrainingOptions& o) { o.teacher = "some"; });
  const auto trainer = create_ranker_trainer(maps_run());
  const auto step = [&](const std::vector<Picture>& pictures) {
    return code_of([&] { trainer->train_step(pictures, {}); });
  };
  CHECK(step(scored.pictures.views()) == codes::kInvalidArgument);
  CHECK(code_of([&] { trainer->evaluate(scored.pictures.views(), {}); }) == codes::kInvalidArgument);
  std::vector<Picture> views = scored.views();
  views[1].scored->scores = views[1].scored->scores.first(11);
  CHECK(step(views) == codes::kInvalidArgument);
  views = scored.views();
  views[3].scored->box.left += 48;
  CHECK(step(views) == codes::kInvalidArgument);
  PretrainOptions pretraining;
  pretraining.model = small_mae_config();
  pretraining.training = maps_run().training;
  CHECK(code_of([&] { create_pretrainer(pretraining)->train_step(scored.views(), {}); }) ==
        codes::kInvalidArgument);
}

}  // namespace
}  // namespace ltrp::test
