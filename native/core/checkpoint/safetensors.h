// The safetensors container: 8-byte little-endian header length, JSON header, raw little-endian tensor data.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/file_io.h"
#include "core/checkpoint/safetensors_header.h"
#include "core/run_context.h"

namespace ltrp {

// A file whose header has been read and checked, and none of whose tensors have.
class SafetensorsReader {
 public:
  // Reads F64, F32, F16, BF16, F8_E4M3, F8_E5M2 and the integers. Every offset, length, shape and overlap is
  // checked against the file's size before anything is allocated. Error(kFileNotFound | kFileRead |
  // kCheckpointFormat | kCancelled), for headers beyond 16 MiB too: that is room for 100,000 tensors.
  explicit SafetensorsReader(const std::string& path, const RunContext& context = {});

  const SafetensorsHeader& header() const { return header_; }
  const InputFile& file() const { return file_; }
  // Where the tensor's bytes begin in the file.
  uint64_t offset_of(const SafetensorsEntry& entry) const { return data_start_ + entry.begin; }

 private:
  InputFile file_;
  SafetensorsHeader header_;
  uint64_t data_start_ = 0;
};

struct SafetensorsFile {
  std::map<std::string, at::Tensor> tensors;    // in the stored dtype, CPU, owned
  std::map<std::string, std::string> metadata;  // the __metadata__ object
};

// All of it. Errors as SafetensorsReader.
SafetensorsFile read_safetensors(const std::string& path, const RunContext& context = {});

// Atomic (AtomicFileWriter). Error(kFileWrite | kFileExists | kCancelled) leaves an existing file as it was.
void write_safetensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata,
                       IfThere if_there = IfThere::kReplace, const RunContext& context = {});

}  // namespace ltrp
