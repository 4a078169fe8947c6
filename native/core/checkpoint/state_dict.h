// A checkpoint opened and its model found, but not interpreted: named tensors that have not been read yet,
// and whatever the file or its folder says about them.
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/run_context.h"
#include "core/weights/kind.h"

namespace ltrp {

struct StoredTensor {
  std::string key;  // as the file spells it
  std::vector<int64_t> shape;
  at::ScalarType type = at::kFloat;
  uint64_t bytes = 0;  // that it takes in the file: fewer than its shape says when values are repeated
  // Fills float32 memory for `shape`; false when a value is NaN or infinite. Valid as long as any copy of it.
  std::function<bool(float*, const RunContext&)> read;
};
using StateDict = std::map<std::string, StoredTensor>;
// Whether a name begins so.
bool any_starts_with(const StateDict& tensors, const std::string& prefix);

// Our own header (see checkpoint.h).
struct OwnHeader {
  std::string kind;  // ModelKind::word
  nlohmann::json config;
};

struct StoredCheckpoint {
  std::string path;  // of the file that holds the tensors, or of the index of several
  // Under the names of the model itself, without what wrappers put before or between them.
  StateDict tensors;
  std::map<std::string, std::string>
      others;                 // what stands under such names and is no tensor: its description
  std::string prefix;         // that wrappers put before the names, for messages
  bool hugging_face = false;  // whose names they are; otherwise the official ones
  bool reference = false;     // under the names of LTRP's training
  std::optional<OwnHeader> header;
  nlohmann::json sidecar;       // the config.json beside the file; null when absent or not a JSON object
  nlohmann::json preprocessor;  // the preprocessor_config.json, likewise
  // Numbers, texts and truth values of a training checkpoint's recorded arguments; an object.
  nlohmann::json arguments;
  std::vector<std::string> notes;  // what was decided without being asked, in sentences

  void note(const std::string& sentence);
};

// Error(kCheckpointContent): "'PATH' WHAT."
[[noreturn]] void refuse(const StoredCheckpoint& checkpoint, const std::string& what);

// `path` is a file (told apart by its first bytes), one shard or the index of several, or a folder with any
// of these. The model is looked for: below whatever keys, with whatever prefix. Of several of this kind
// `weights` names one by a key or a part of its prefix; without it the ordinary weights are taken rather than
// averages (EMA). Error(kFileNotFound | kFileRead | kCheckpointFormat | kCheckpointContent | kCancelled).
StoredCheckpoint open_checkpoint(const std::string& path, const ModelKind& kind,
                                 const std::optional<std::string>& weights = {},
                                 const RunContext& context = {});

}  // namespace ltrp
