// Reading and writing models on disk, under the names of core/weights/weights.h.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/checkpoint/any_config.h"
#include "core/checkpoint/file_io.h"
#include "core/run_context.h"
#include "core/weights/weights.h"

namespace ltrp {

// What the caller knows better than the file. These win over everything that the file or its config.json
// says.
struct CheckpointOverrides {
  std::optional<int64_t> encoder_heads = {};
  std::optional<int64_t> decoder_heads = {};  // autoencoder only
  std::optional<int64_t> image_height = {};   // pixels; both or none. Needed for tables of a non-square grid
  std::optional<int64_t> image_width = {};
  std::optional<double> layer_norm_eps = {};
  std::optional<bool> normalized_target = {};  // autoencoder only
  std::optional<std::string> weights = {};     // which of several models in a file: a key above it, or "a.b"
  bool incomplete = false;  // a model that lacks a part will do: an encoder alone, a classifier without head
};

// `path`: a safetensors file or one of torch.save (told apart by their bytes), one shard or the index of
// several, or a folder with any of these (locate.h): Hugging Face's, a training run of ours. The model may be
// below any keys and behind any prefix: DDP, torch.compile, Lightning, DeepSpeed, EMA, FSDP and their
// nestings. Only headers are read before names, shapes and sizes are known to be right; then the tensors of
// the model alone, piece by piece, while `context` is polled. They come back in float32 on the CPU,
// contiguous, owned by the map. Values that are views are taken as they are, whatever their strides.
//
// What the tensors do not tell comes, in this order, from `overrides`, from our own header, from a
// config.json and a preprocessor_config.json beside the file (settings.h; unless the file has Hugging Face's
// names, they are ignored when they describe another geometry), from the arguments recorded in a training
// checkpoint, and from the published models: eps 1e-12 (Hugging Face's names), 1e-5 (ranker)
// or 1e-6; heads by width (192: 3, 384: 6, 768: 12, 1024 and 1280: 16;
// otherwise 64 wide; decoder 512: 16, otherwise 32 wide), a square image, zeros where no block has biases of
// query, key and value.
//
// Strict: a missing, unexpected or misshapen tensor, and one with NaN or infinite values, is
// Error(kCheckpointContent) naming the key as the file spells it. A file may hold several kinds of models:
// each takes its own (kind.h). Never executes a pickle. A model that lacks a part is
// Error(kCheckpointContent) unless `overrides.incomplete`, and then has a note. Error(kOutOfMemory) for a
// small file that describes a large model. Error(kCancelled).
template <typename Config>
Checkpoint<Config> load_checkpoint(const std::string& path, const CheckpointOverrides& overrides = {},
                                   const RunContext& context = {});

enum class StoredType { kFloat32, kFloat16, kBFloat16 };
template <>
struct Names<StoredType> {
  static constexpr Named<StoredType> all[] = {{StoredType::kFloat32, "float32"},
                                              {StoredType::kFloat16, "float16"},
                                              {StoredType::kBFloat16, "bfloat16"}};
};

// Our own layout: safetensors with canonical names whose __metadata__ has {"format": "ltrp-1",
// "kind": ModelKind::word, "config": "<JSON>"} (config_json.h). A position table that is the fixed sin-cos
// table is left out and named in the config ("positions", "decoder_positions": "sincos2d"): bit for bit when
// writing float32, within 1e-6 in half precision; other tables are stored in float32 ("stored"). Atomic
// (AtomicFileWriter); a full disk is Error(kFileWrite) and leaves an existing file untouched.
// Error(kFileExists), Error(kCancelled). Error(kInvalidArgument) when the tensors do not fit the config, or
// overflow the stored type.
template <typename Config>
void save_checkpoint(const std::string& path, const Config& config, const TensorMap& tensors, StoredType type,
                     IfThere if_there = IfThere::kReplace, const RunContext& context = {});

// The same for a configuration of any kind.
struct LoadedModel {
  TensorMap tensors;
  std::string naming;
  std::vector<std::string> notes;
};
LoadedModel load_model(const std::string& path, AnyConfig& config, const CheckpointOverrides& overrides,
                       const RunContext& context);
void save_model(const std::string& path, AnyConfig& config, const TensorMap& tensors, StoredType type,
                IfThere if_there, const RunContext& context);

template <typename Config>
Checkpoint<Config> load_checkpoint(const std::string& path, const CheckpointOverrides& overrides,
                                   const RunContext& context) {
  Config config;
  ConfigOf<Config> any(config);
  LoadedModel model = load_model(path, any, overrides, context);
  return {config, std::move(model.tensors), std::move(model.naming), std::move(model.notes)};
}

template <typename Config>
void save_checkpoint(const std::string& path, const Config& config, const TensorMap& tensors, StoredType type,
                     IfThere if_there, const RunContext& context) {
  Config copy = config;
  ConfigOf<Config> any(copy);
  save_model(path, any, tensors, type, if_there, context);
}

}  // namespace ltrp
