#include "core/checkpoint/safetensors.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <bit>
#include <nlohmann/json.hpp>
#include <utility>
#include <vector>

#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
// The published models need some 100 KB.
constexpr uint64_t kMaxHeaderBytes = uint64_t{16} << 20;

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(codes::kCheckpointFormat, "'" + path + "' is not a valid safetensors file: " + what + ".");
}

at::Tensor read_tensor(const SafetensorsReader& reader, const std::string& name,
                       const SafetensorsEntry& entry, const RunContext& context) {
  at::Tensor tensor = at::empty(entry.shape, entry.type);
  if (entry.end == entry.begin) return tensor;
  reader.file().read_at(reader.offset_of(entry), tensor.data_ptr(), entry.end - entry.begin, context);
  if (entry.type == at::kBool) {  // any other byte in a bool is undefined behaviour in C++
    auto* bytes = static_cast<uint8_t*>(tensor.data_ptr());
    for (int64_t i = 0; i < tensor.numel(); ++i) {
      if (bytes[i] > 1)
        refuse(reader.file().path(),
               "tensor " + quote_name(name) + " has a truth value that is neither 0 nor 1");
    }
  }
  return tensor;
}

}  // namespace

SafetensorsReader::SafetensorsReader(const std::string& path, const RunContext& context) : file_(path) {
  if (file_.size() < kLengthBytes) refuse(path, "it has only " + std::to_string(file_.size()) + " bytes");
  uint64_t header_bytes = 0;
  file_.read_at(0, &header_bytes, kLengthBytes);
  const uint64_t available = file_.size() - kLengthBytes;
  if (header_bytes > available) {
    refuse(path, "its header claims " + std::to_string(header_bytes) + " bytes, but only " +
                     std::to_string(available) + " follow");
  }
  if (header_bytes > kMaxHeaderBytes) {
    refuse(path, "its header has " + std::to_string(header_bytes) + " bytes, and at most " +
                     std::to_string(kMaxHeaderBytes) + " are read");
  }
  std::string text(header_bytes, '\0');
  file_.read_at(kLengthBytes, text.data(), header_bytes, context);
  data_start_ = kLengthBytes + header_bytes;
  header_ = parse_safetensors_header(path, text, available - header_bytes, context);
}

SafetensorsFile read_safetensors(const std::string& path, const RunContext& context) {
  const SafetensorsReader reader(path, context);
  SafetensorsFile result;
  result.metadata = reader.header().metadata;
  for (const auto& [name, entry] : reader.header().tensors) {
    result.tensors.emplace(name, read_tensor(reader, name, entry, context));
  }
  return result;
}

void write_safetensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata, IfThere if_there,
                       const RunContext& context) {
  // Widest types first, so that every tensor starts aligned to its element.
  std::vector<std::pair<std::string, at::Tensor>> ordered;
  for (const auto& [name, tensor] : tensors) {
    if (name == kSafetensorsMetadata)
      throw Error(codes::kInvalidArgument, "A tensor cannot be named __metadata__.");
    if (!tensor.defined())
      throw Error(codes::kInvalidArgument, "Tensor " + quote_name(name) + " is empty and cannot be saved.");
    ordered.emplace_back(name, tensor.detach().cpu().contiguous());
  }
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) {
    return a.second.element_size() > b.second.element_size();
  });

  json header = json::object();
  if (!metadata.empty()) header[kSafetensorsMetadata] = metadata;
  uint64_t offset = 0;
  for (const auto& [name, tensor] : ordered) {
    const char* type = safetensors_type_name(tensor.scalar_type());
    if (!type) {
      throw Error(codes::kInvalidArgument,
                  "Tensor " + quote_name(name) + " has a dtype that safetensors cannot hold.");
    }
    const uint64_t end = offset + static_cast<uint64_t>(tensor.nbytes());
    header[name] = {{"dtype", type}, {"shape", tensor.sizes().vec()}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    throw Error(codes::kInvalidArgument, "The metadata and tensor names of '" + path + "' must be UTF-8.");
  }
  text.append((8 - text.size() % 8) % 8, ' ');

  AtomicFileWriter file(path, if_there);
  const uint64_t header_bytes = text.size();
  file.write(&header_bytes, kLengthBytes);
  file.write(text.data(), text.size());
  for (const auto& [name, tensor] : ordered) {
    if (tensor.nbytes() > 0) file.write(tensor.data_ptr(), tensor.nbytes(), context);
  }
  file.commit();
}

}  // namespace ltrp
