// Score maps of random crops, kept in files that rankers learn from (docs/method.md, 6).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <map>
#include <span>
#include <string>

#include "core/engine/teacher.h"
#include "core/run_context.h"
#include "core/training/options.h"
#include "core/training/trainer.h"

namespace ltrp {

// Maps of some crops, and of which ones they are. The crops of a picture lie one after the other.
struct StoredScores {
  at::Tensor scores;  // [crops, L] float32, raster order
  at::Tensor crops;   // [crops, 5] int32: top, left, height, width in the decoded picture; 1 where mirrored
  at::Tensor seeds;   // [crops] int64 in [0, 2^53): that of score_map() for an image on its own
  at::Tensor sizes;   // [pictures, 2] int32: height and width as decoded
};

// Draws `options.crops` crops of each picture, as training does, resizes them to the teacher's image size and
// scores them. What is drawn for a picture depends on the seed and its number alone. Progress counts crops.
// Error(kInvalidArgument | kNotFinite | kCancelled).
StoredScores score_crops(const Teacher& teacher, std::span<const Picture> pictures,
                         std::span<const int64_t> numbers, const ScoreStoreOptions& options,
                         const RunContext& context);

// A safetensors file with a checksum, atomic. Error(kFileWrite).
void write_score_shard(const std::string& path, const StoredScores& maps,
                       std::map<std::string, std::string> metadata, const RunContext& context);

// Tensors of the types and shapes above, finite scores, crops within their pictures. Error(kFileNotFound |
// kFileRead | kCheckpointFormat | kCheckpointContent).
StoredScores read_score_shard(const std::string& path, std::map<std::string, std::string>& metadata,
                              const RunContext& context);

}  // namespace ltrp
