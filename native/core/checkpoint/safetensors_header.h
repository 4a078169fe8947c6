// The JSON header of a safetensors file, checked as it is parsed: nothing is built beyond the first fault.
#pragma once

#include <c10/core/ScalarType.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/run_context.h"

namespace ltrp {

inline constexpr const char* kSafetensorsMetadata = "__metadata__";

struct SafetensorsEntry {
  at::ScalarType type = at::kFloat;
  std::vector<int64_t> shape;
  uint64_t begin = 0;  // bytes, from the end of the header
  uint64_t end = 0;
};

struct SafetensorsHeader {
  std::map<std::string, SafetensorsEntry> tensors;
  std::map<std::string, std::string> metadata;  // the __metadata__ object
};

// Tensors must have known types and sizes and cover `data_bytes` exactly, in any order, without holes or
// overlaps. `path` names the file in Error(kCheckpointFormat); Error(kCancelled).
SafetensorsHeader parse_safetensors_header(const std::string& path, const std::string& text,
                                           uint64_t data_bytes, const RunContext& context);

// "F32"; null for types that the format does not have.
const char* safetensors_type_name(at::ScalarType type);

}  // namespace ltrp
