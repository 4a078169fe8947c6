#include "core/checkpoint/safetensors.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>
#include <vector>

#include "core/checkpoint/file_io.h"
#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

using nlohmann::json;

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the format's own limit
constexpr size_t kMaxRank = 64;
constexpr const char* kMetadataKey = "__metadata__";

struct TypeName {
  const char* name;
  at::ScalarType type;
};
constexpr TypeName kTypes[] = {{"F64", at::kDouble},    {"F32", at::kFloat}, {"F16", at::kHalf},
                               {"BF16", at::kBFloat16}, {"I64", at::kLong},  {"I32", at::kInt},
                               {"I16", at::kShort},     {"I8", at::kChar},   {"U8", at::kByte},
                               {"BOOL", at::kBool}};

struct Entry {
  std::string name;
  at::ScalarType type = at::kFloat;
  std::vector<int64_t> shape;
  uint64_t begin = 0;
  uint64_t end = 0;
};

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(codes::kCheckpointFormat, "'" + path + "' is not a valid safetensors file: " + what + ".");
}

// Throws ltrp::Error out of the JSON parser, so that nothing is built beyond the first fault.
json parse_header(const std::string& path, const std::string& text) {
  std::vector<std::set<std::string>> keys;
  const auto watch = [&](int depth, json::parse_event_t event, json& parsed) {
    if (depth > 3) refuse(path, "its header is nested too deeply");
    if (event == json::parse_event_t::object_start) keys.emplace_back();
    if (event == json::parse_event_t::object_end) keys.pop_back();
    if (event == json::parse_event_t::key &&
        !keys.back().insert(parsed.get_ref<const std::string&>()).second) {
      refuse(path, "its header has the key " + quote_name(parsed.get<std::string>()) + " twice");
    }
    return true;
  };
  try {
    json header = json::parse(text, watch);
    if (!header.is_object()) refuse(path, "its header is not a JSON object");
    return header;
  } catch (const json::exception&) {
    refuse(path, "its header is not valid JSON in UTF-8");
  }
}

uint64_t parse_unsigned(const std::string& path, const std::string& name, const json& value) {
  if (!value.is_number_unsigned())
    refuse(path, "tensor " + quote_name(name) + " has a size that is not a whole number from 0 up");
  return value.get<uint64_t>();
}

Entry parse_entry(const std::string& path, const std::string& name, const json& value) {
  Entry entry;
  entry.name = name;
  if (!value.is_object() || value.size() != 3 || !value.contains("dtype") || !value.contains("shape") ||
      !value.contains("data_offsets")) {
    refuse(path, "tensor " + quote_name(name) + " must have exactly dtype, shape and data_offsets");
  }
  const json& dtype = value["dtype"];
  const auto* known = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const TypeName& type) {
    return dtype.is_string() && dtype == type.name;
  });
  if (known == std::end(kTypes))
    refuse(path, "tensor " + quote_name(name) + " has the unknown dtype " +
                     quote_name(dtype.is_string() ? dtype.get_ref<const std::string&>() : dtype.type_name()));
  entry.type = known->type;

  const json& shape = value["shape"];
  if (!shape.is_array() || shape.size() > kMaxRank) {
    refuse(path, "the shape of tensor " + quote_name(name) + " is not a list of up to " +
                     std::to_string(kMaxRank) + " sizes");
  }
  // Sizes are multiplied even when one of them is 0, so that strides cannot overflow later.
  uint64_t bytes = c10::elementSize(entry.type);
  bool empty = false;
  for (const json& item : shape) {
    const uint64_t size = parse_unsigned(path, name, item);
    empty = empty || size == 0;
    if (__builtin_mul_overflow(bytes, std::max<uint64_t>(size, 1), &bytes) ||
        bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      refuse(path, "tensor " + quote_name(name) + " is larger than 64 bits can count");
    }
    entry.shape.push_back(static_cast<int64_t>(size));
  }
  if (empty) bytes = 0;

  const json& offsets = value["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2)
    refuse(path, "the data_offsets of tensor " + quote_name(name) + " are not two numbers");
  entry.begin = parse_unsigned(path, name, offsets[0]);
  entry.end = parse_unsigned(path, name, offsets[1]);
  if (entry.end < entry.begin || entry.end - entry.begin != bytes) {
    refuse(path, "the data_offsets of tensor " + quote_name(name) + " do not fit its shape and dtype (" +
                     std::to_string(bytes) + " bytes)");
  }
  return entry;
}

std::map<std::string, std::string> parse_metadata(const std::string& path, const json& value) {
  std::map<std::string, std::string> metadata;
  if (!value.is_object()) refuse(path, "its __metadata__ is not an object");
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string())
      refuse(path, "the entry " + quote_name(key) + " of its __metadata__ is not a string");
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

// Tensors must cover the data exactly, in any order, without holes or overlaps.
void check_coverage(const std::string& path, std::vector<Entry>& entries, uint64_t data_bytes) {
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::tie(a.begin, a.end) < std::tie(b.begin, b.end);
  });
  uint64_t covered = 0;
  for (const Entry& entry : entries) {
    if (entry.begin != covered) {
      refuse(path, "tensor " + quote_name(entry.name) + " " +
                       (entry.begin < covered ? "overlaps the one before it" : "leaves a hole before it"));
    }
    covered = entry.end;
  }
  if (covered > data_bytes) {
    refuse(path, "it is truncated: its header describes " + std::to_string(covered) +
                     " bytes of tensors, and " + std::to_string(data_bytes) + " are there");
  }
  if (covered < data_bytes)
    refuse(path, std::to_string(data_bytes - covered) + " bytes after its last tensor belong to nothing");
}

at::Tensor read_tensor(const InputFile& file, const Entry& entry, uint64_t data_start) {
  at::Tensor tensor = at::empty(entry.shape, entry.type);
  if (entry.end == entry.begin) return tensor;
  file.read_at(data_start + entry.begin, tensor.data_ptr(), entry.end - entry.begin);
  if (entry.type == at::kBool) {  // any other byte in a bool is undefined behaviour in C++
    auto* bytes = static_cast<uint8_t*>(tensor.data_ptr());
    for (int64_t i = 0; i < tensor.numel(); ++i) {
      if (bytes[i] > 1)
        refuse(file.path(),
               "tensor " + quote_name(entry.name) + " has a truth value that is neither 0 nor 1");
    }
  }
  return tensor;
}

}  // namespace

SafetensorsFile read_safetensors(const std::string& path) {
  const InputFile file(path);
  if (file.size() < kLengthBytes) refuse(path, "it has only " + std::to_string(file.size()) + " bytes");
  uint64_t header_bytes = 0;
  file.read_at(0, &header_bytes, kLengthBytes);
  const uint64_t available = file.size() - kLengthBytes;
  if (header_bytes > available) {
    refuse(path, "its header claims " + std::to_string(header_bytes) + " bytes, but only " +
                     std::to_string(available) + " follow");
  }
  if (header_bytes > kMaxHeaderBytes)
    refuse(path, "its header claims more than " + std::to_string(kMaxHeaderBytes) + " bytes");
  std::string text(header_bytes, '\0');
  file.read_at(kLengthBytes, text.data(), header_bytes);
  const json header = parse_header(path, text);

  SafetensorsFile result;
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == kMetadataKey) {
      result.metadata = parse_metadata(path, value);
    } else {
      entries.push_back(parse_entry(path, name, value));
    }
  }
  check_coverage(path, entries, available - header_bytes);
  for (const Entry& entry : entries) {
    result.tensors.emplace(entry.name, read_tensor(file, entry, kLengthBytes + header_bytes));
  }
  return result;
}

void write_safetensors(const std::string& path, const std::map<std::string, at::Tensor>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  // Widest types first, so that every tensor starts aligned to its element.
  std::vector<std::pair<std::string, at::Tensor>> ordered;
  for (const auto& [name, tensor] : tensors) {
    if (name == kMetadataKey) throw Error(codes::kInvalidArgument, "A tensor cannot be named __metadata__.");
    if (!tensor.defined())
      throw Error(codes::kInvalidArgument, "Tensor " + quote_name(name) + " is empty and cannot be saved.");
    ordered.emplace_back(name, tensor.detach().cpu().contiguous());
  }
  std::stable_sort(ordered.begin(), ordered.end(), [](const auto& a, const auto& b) {
    return a.second.element_size() > b.second.element_size();
  });

  json header = json::object();
  if (!metadata.empty()) header[kMetadataKey] = metadata;
  uint64_t offset = 0;
  for (const auto& [name, tensor] : ordered) {
    const auto* known = std::find_if(std::begin(kTypes), std::end(kTypes),
                                     [&](const TypeName& type) { return type.type == tensor.scalar_type(); });
    if (known == std::end(kTypes)) {
      throw Error(codes::kInvalidArgument,
                  "Tensor " + quote_name(name) + " has a dtype that safetensors cannot hold.");
    }
    const uint64_t end = offset + static_cast<uint64_t>(tensor.nbytes());
    header[name] = {{"dtype", known->name}, {"shape", tensor.sizes().vec()}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const json::exception&) {
    throw Error(codes::kInvalidArgument, "The metadata and tensor names of '" + path + "' must be UTF-8.");
  }
  text.append((8 - text.size() % 8) % 8, ' ');

  AtomicFileWriter file(path);
  const uint64_t header_bytes = text.size();
  file.write(&header_bytes, kLengthBytes);
  file.write(text.data(), text.size());
  for (const auto& [name, tensor] : ordered) {
    if (tensor.nbytes() > 0) file.write(tensor.data_ptr(), tensor.nbytes());
  }
  file.commit();
}

}  // namespace ltrp
