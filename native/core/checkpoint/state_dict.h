// A checkpoint file opened but not interpreted: named tensors as stored, and whatever the file or its folder
// says about them.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

namespace ltrp {

struct StoredTensor {
  std::vector<int64_t> shape;
  std::function<at::Tensor()> load;  // in the stored type; valid as long as the StoredCheckpoint
};
using StateDict = std::map<std::string, StoredTensor>;

// Our own header (see checkpoint.h).
struct OwnHeader {
  std::string kind;  // "mae" or "ranker"
  nlohmann::json config;
};

struct StoredCheckpoint {
  std::string path;  // of the file that holds the tensors
  StateDict tensors;
  std::optional<OwnHeader> header;
  nlohmann::json sidecar;  // the config.json beside the file; null when absent or not a JSON object
  nlohmann::json
      arguments;  // numbers, texts and truth values of a training checkpoint's recorded `args`; an object
};

// `path` is a file (told apart by its first bytes) or a folder. Error(kFileNotFound | kFileRead |
// kCheckpointFormat | kCheckpointContent).
StoredCheckpoint open_checkpoint(const std::string& path);

}  // namespace ltrp
