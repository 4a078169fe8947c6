// PyTorch's .pth files (torch.save since 1.6): a zip archive with a pickle that describes tensors and one
// record per storage.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "core/checkpoint/pickle.h"

namespace ltrp {

class PthFile {
 public:
  // Opens the archive and reads its pickle as inert data. Error(kFileNotFound | kFileRead |
  // kCheckpointFormat); the format of PyTorch before 1.6 is refused with the way to convert it.
  explicit PthFile(const std::string& path);
  ~PthFile();

  PickleRef root() const;
  // Reads a tensor into memory of its own, contiguous, in its stored type. Error(kCheckpointFormat), naming
  // `name`, when the view reaches beyond its storage or the storage's record is missing or too short.
  at::Tensor load(const PickleTensor& tensor, const std::string& name);

 private:
  struct Archive;
  std::unique_ptr<Archive> archive_;
};

}  // namespace ltrp
