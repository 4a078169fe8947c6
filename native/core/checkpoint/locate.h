// Which files a path stands for: one file, the shards of one model, or the right ones in a folder.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace ltrp {

struct LocatedModel {
  std::string path;    // the file, or the index of the shards
  std::string folder;  // of the file, the shards and what lies beside them
  std::map<std::string, std::vector<std::string>>
      shards;  // names in `folder` with their tensors; none for one file
  std::vector<std::string> notes;
};

// Folders: Hugging Face's (model.safetensors, pytorch_model.bin, or the index of either), DeepSpeed's, runs
// of ours (the model, or the newest checkpoint where that is newer), or one checkpoint file of any other
// name. Indices name shards of their own folder only. Error(kFileNotFound) names what is missing,
// Error(kFileRead), Error(kCheckpointFormat) for an index that cannot be one.
LocatedModel locate_model(const std::string& path);

}  // namespace ltrp
