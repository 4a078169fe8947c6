#include "core/training/score_store.h"

#include <ATen/ATen.h>

#include "core/check.h"
#include "core/checkpoint/safetensors.h"
#include "core/engine/score_map.h"
#include "core/random.h"
#include "core/training/augment.h"
#include "core/training/checksum.h"

namespace ltrp {

namespace {

constexpr const char* kFormat = "ltrp-scores-1";
// Streams of random numbers out of one seed.
constexpr uint64_t kCropStream = 1, kMaskStream = 2;

}  // namespace

StoredScores score_crops(const Teacher& teacher, std::span<const Picture> pictures,
                         std::span<const int64_t> numbers, const ScoreStoreOptions& options,
                         const RunContext& context) {
  validate(options);
  const MaeConfig& model = teacher.config();
  const auto count = static_cast<int64_t>(pictures.size());
  const int64_t crops = count * options.crops, patches = model.grid().patches();
  StoredScores maps{at::empty({crops, patches}, at::kFloat), at::empty({crops, 5}, at::kInt),
                    at::empty({crops}, at::kLong), at::empty({count, 2}, at::kInt)};
  auto sizes = maps.sizes.accessor<int32_t, 2>();
  auto boxes = maps.crops.accessor<int32_t, 2>();
  auto seeds = maps.seeds.accessor<int64_t, 1>();
  ScoreMapOptions map_options;
  map_options.scores = options.scores;
  map_options.mask_ratio = options.mask_ratio;
  map_options.rounds = options.rounds;
  map_options.surprise = options.surprise;
  const CropOptions crop_options{options.crop_scale[0], options.crop_scale[1], options.flip};
  for (int64_t i = 0; i < count; ++i) {
    Picture picture = pictures[static_cast<size_t>(i)];
    sizes[i][0] = static_cast<int32_t>(picture.height);
    sizes[i][1] = static_cast<int32_t>(picture.width);
    for (int64_t crop = 0; crop < options.crops; ++crop) {
      const int64_t row = i * options.crops + crop;
      const auto stream = static_cast<uint64_t>(numbers[static_cast<size_t>(i)] * options.crops + crop);
      ScoredCrop& drawn = picture.scored.emplace();
      at::Generator generator = generator_for(mix_seed(options.seed, kCropStream), stream);
      drawn.box = random_crop_box(picture.height, picture.width, crop_options, generator, drawn.flip);
      const int64_t values[] = {drawn.box.top, drawn.box.left, drawn.box.height, drawn.box.width, drawn.flip};
      for (int64_t k = 0; k < 5; ++k) boxes[row][k] = static_cast<int32_t>(values[k]);
      // JavaScript's integers have 53 bits: with this seed anybody can compute the map again.
      map_options.seed = mix_seed(mix_seed(options.seed, kMaskStream), stream) >> 11;
      seeds[row] = static_cast<int64_t>(map_options.seed);
      const at::Tensor image = evaluation_crops({&picture, 1}, EvaluationCrop::kCentre, model.image_height,
                                                model.image_width, model.mean, model.std);
      const ScoreMap map = score_map(teacher, image, map_options, context.without_progress());
      maps.scores[row].copy_(map.mean.reshape({patches}));
      context.progress(row + 1, crops);
    }
  }
  return maps;
}

void write_score_shard(const std::string& path, const StoredScores& maps,
                       std::map<std::string, std::string> metadata, const RunContext& context) {
  const TensorMap tensors{
      {"scores", maps.scores}, {"crops", maps.crops}, {"seeds", maps.seeds}, {"sizes", maps.sizes}};
  metadata["format"] = kFormat;
  metadata[kChecksumKey] = checksum(tensors, metadata);
  write_safetensors(path, tensors, metadata, IfThere::kReplace, context);
}

StoredScores read_score_shard(const std::string& path, std::map<std::string, std::string>& metadata,
                              const RunContext& context) {
  SafetensorsFile file = read_safetensors(path, context);
  const auto refuse = [&](const char* code, const std::string& what) {
    throw Error(code, "'" + path + "' " + what + ".");
  };
  if (file.metadata["format"] != kFormat) {
    refuse(codes::kCheckpointContent, std::string("holds no stored scores (format '") + kFormat + "')");
  }
  if (file.metadata[kChecksumKey] != checksum(file.tensors, file.metadata)) {
    refuse(codes::kCheckpointFormat, "is damaged: its bytes are not the ones that its checksum was made of");
  }
  const auto tensor = [&](const char* name, at::ScalarType type, int64_t dimensions) {
    const auto found = file.tensors.find(name);
    if (found == file.tensors.end() || found->second.scalar_type() != type ||
        found->second.dim() != dimensions) {
      refuse(codes::kCheckpointContent,
             std::string("has no tensor '") + name + "' of the type and dimensions of stored scores");
    }
    return found->second;
  };
  StoredScores maps{tensor("scores", at::kFloat, 2), tensor("crops", at::kInt, 2),
                    tensor("seeds", at::kLong, 1), tensor("sizes", at::kInt, 2)};
  const int64_t crops = maps.scores.size(0), pictures = maps.sizes.size(0);
  if (maps.crops.sizes() != at::IntArrayRef{crops, 5} || maps.seeds.size(0) != crops ||
      maps.sizes.size(1) != 2 || (pictures == 0 ? crops != 0 : crops % pictures != 0) ||
      !at::isfinite(maps.scores).all().item<bool>()) {
    refuse(codes::kCheckpointContent, "has tensors that do not belong together");
  }
  const auto boxes = maps.crops.accessor<int32_t, 2>(), sizes = maps.sizes.accessor<int32_t, 2>();
  for (int64_t row = 0; row < crops; ++row) {
    const auto box = boxes[row], size = sizes[row / (crops / pictures)];
    const auto is_within = [&](int64_t first, int64_t length, int64_t limit) {
      return first >= 0 && length >= 1 && first + length <= limit;
    };
    if (!is_within(box[0], box[2], size[0]) || !is_within(box[1], box[3], size[1]) || box[4] < 0 ||
        box[4] > 1) {
      refuse(codes::kCheckpointContent, "has a crop that does not lie in its picture");
    }
  }
  metadata = std::move(file.metadata);
  return maps;
}

}  // namespace ltrp
