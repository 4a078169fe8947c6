// Finds a model among everything that a checkpoint holds: wrappers put keys above it and prefixes before its
// names, and there may be several.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/contents.h"
#include "core/checkpoint/state_dict.h"

namespace ltrp {

// A set of names that is a known model behind `prefix`.
struct FoundModel {
  std::string prefix;
  bool hugging_face = false;
};
std::vector<FoundModel> find_models(const StateDict& tensors);

// Fills in what the model of this kind has of `contents`: tensors, others, prefix, naming, arguments, notes.
// Of several, `weights` names one; see open_checkpoint. Error(kCheckpointContent) says what is there when
// nothing is known, when the model is of the other kind and when there are several that could be meant.
void choose_model(const FileContents& contents, const ModelKind& kind,
                  const std::optional<std::string>& weights, StoredCheckpoint& checkpoint);

}  // namespace ltrp
