// PyTorch's .pth files (torch.save since 1.6): a zip archive with a pickle that describes tensors and one
// record per storage.
#pragma once

#include <memory>
#include <string>

#include "core/checkpoint/pickle.h"
#include "core/checkpoint/zip_archive.h"
#include "core/run_context.h"

namespace ltrp {

class PthFile {
 public:
  // Opens the archive and reads its pickle as inert data. Error(kFileNotFound | kFileRead |
  // kCheckpointFormat | kCancelled); other zip archives are refused by what they hold.
  explicit PthFile(const std::string& path, const RunContext& context = {});

  const std::string& path() const { return archive_.file().path(); }
  PickleRef root() const { return pickle_->root(); }
  // Reads a tensor into `destination`, as many float32 values as its sizes say, in their order, piece by
  // piece; false when one is NaN or infinite. Views may be transposed, expanded or of any other strides; only
  // what they span is read. Error(kCheckpointFormat), naming `name`, when the view reaches beyond its storage
  // or the storage's record is missing, too short or damaged.
  bool read(const PickleTensor& tensor, const std::string& name, float* destination,
            const RunContext& context = {}) const;

 private:
  struct View;
  bool read_view(const View& view, float* destination, const RunContext& context) const;
  [[noreturn]] void refuse(const std::string& what) const;

  ZipArchive archive_;
  std::string folder_;  // of the archive, with a slash
  std::unique_ptr<Pickle> pickle_;
};

}  // namespace ltrp
