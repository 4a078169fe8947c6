// What lies in checkpoint files, whatever their format: mappings of names to tensors.
#pragma once

#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/checkpoint/state_dict.h"
#include "core/run_context.h"

namespace ltrp {

// The tensors of a safetensors file, or a dictionary somewhere in a pickle.
struct Mapping {
  std::vector<std::string> place;                   // keys that lead to it
  StateDict tensors;                                // under names without the parts that wrappers add
  std::map<std::string, std::string> others;        // entries that are no tensors, and what they are
  std::shared_ptr<const nlohmann::json> arguments;  // recorded beside it or above it; an object
};

struct FileContents {
  std::vector<Mapping> mappings;
  std::map<std::string, std::string> metadata;  // of safetensors
  std::set<std::string> keys;                   // on top
  std::string inventory;                        // the keys in words, at most some 200 bytes
};

// Reads headers and pickles, no tensors. Errors as open_checkpoint.
FileContents read_contents(const std::string& path, const RunContext& context);

// The same for the shards of one model: files of `folder` by name, each with the tensors it is to have (all
// that it has when empty). Error(kCheckpointContent) names the shard that lacks one.
FileContents read_shards(const std::string& folder,
                         const std::map<std::string, std::vector<std::string>>& shards,
                         const RunContext& context);

}  // namespace ltrp
