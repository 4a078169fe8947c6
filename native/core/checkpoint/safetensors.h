// The safetensors container: 8-byte little-endian header length, JSON header, raw little-endian tensor data.
#pragma once

#include <ATen/core/Tensor.h>

#include <map>
#include <string>

namespace ltrp {

struct SafetensorsFile {
  std::map<std::string, at::Tensor> tensors;    // in the stored dtype, CPU, owned
  std::map<std::string, std::string> metadata;  // the __metadata__ object
};

// Reads F64, F32, F16, BF16, I64, I32, I16, I8, U8, BOOL. Every offset, length, shape and overlap is checked
// against the file's size before anything is allocated. Error(kFileNotFound | kFileRead | kCheckpointFormat).
SafetensorsFile read_safetensors(const std::string& path);

// Atomic: writes a temporary file in the same folder, fsyncs, renames. Error(kFileWrite) leaves an existing
// file as it was.
void write_safetensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata);

}  // namespace ltrp
