#include "core/checkpoint/state_dict.h"

#include <array>
#include <cmath>
#include <filesystem>
#include <memory>
#include <utility>

#include "core/checkpoint/file_io.h"
#include "core/checkpoint/pth.h"
#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMaxSidecarBytes = 1 << 20;
constexpr const char* kFormat = "ltrp-1";

[[noreturn]] void refuse(const char* code, const std::string& path, const std::string& what) {
  throw Error(code, "'" + path + "' " + what + ".");
}

// Nothing in a configuration is nested deeply; a hostile file must not build towers of arrays.
json parse_json(const std::string& text) {
  constexpr int kMaxDepth = 8;
  bool too_deep = false;
  json value = json::parse(
      text,
      [&](int depth, json::parse_event_t, json&) {
        too_deep = too_deep || depth > kMaxDepth;
        return !too_deep;
      },
      /*allow_exceptions=*/false);
  return too_deep || value.is_discarded() ? json() : value;
}

void add_safetensors(StoredCheckpoint& checkpoint) {
  const SafetensorsFile file = read_safetensors(checkpoint.path);
  for (const auto& [name, tensor] : file.tensors) {
    checkpoint.tensors.emplace(name,
                               StoredTensor{tensor.sizes().vec(), [tensor = tensor] { return tensor; }});
  }
  const auto format = file.metadata.find("format");
  if (format == file.metadata.end() || format->second.rfind("ltrp-", 0) != 0) return;
  if (format->second != kFormat) {
    refuse(codes::kUnsupported, checkpoint.path,
           "has the layout " + quote_name(format->second) + ", and this version of ltrp reads " + kFormat);
  }
  const auto kind = file.metadata.find("kind");
  const auto config = file.metadata.find("config");
  if (kind == file.metadata.end() || config == file.metadata.end()) {
    refuse(codes::kCheckpointFormat, checkpoint.path, "lacks 'kind' or 'config' in its header");
  }
  checkpoint.header = OwnHeader{kind->second, parse_json(config->second)};
  if (!checkpoint.header->config.is_object()) {
    refuse(codes::kCheckpointFormat, checkpoint.path,
           "has a 'config' in its header that is not a JSON object");
  }
}

// The state dict is under 'model' (official MAE, LTRP), under 'state_dict', or the root itself (Hugging
// Face).
const PickleDict& find_state_dict(const PickleRef root, const std::string& path) {
  const auto* dict = root->as<PickleDict>();
  if (!dict)
    refuse(codes::kCheckpointContent, path, "holds " + root->description() + ", not a dictionary of tensors");
  for (const char* key : {"model", "state_dict"}) {
    const PickleRef inner = find_key(*dict, key);
    if (!inner) continue;
    if (const auto* state = inner->as<PickleDict>()) return *state;
    refuse(codes::kCheckpointContent, path,
           "holds " + inner->description() + " under '" + key + "', not a dictionary of tensors");
  }
  return *dict;
}

// `args` is an argparse.Namespace (inert here) or a dictionary; only plain values are of interest.
json find_arguments(const PickleRef root) {
  json arguments = json::object();
  const auto* dict = root->as<PickleDict>();
  PickleRef found = dict ? find_key(*dict, "args") : nullptr;
  if (found && found->as<PickleOpaque>()) found = found->as<PickleOpaque>()->state;
  const auto* fields = found ? found->as<PickleDict>() : nullptr;
  if (!fields) return arguments;
  for (const auto& [key, value] : fields->entries) {
    const auto* name = key->as<std::string>();
    if (!name) continue;
    if (const auto* truth = value->as<bool>()) arguments[*name] = *truth;
    if (const auto* integer = value->as<int64_t>()) arguments[*name] = *integer;
    if (const auto* number = value->as<double>()) arguments[*name] = *number;
  }
  return arguments;
}

void add_pth(StoredCheckpoint& checkpoint) {
  const auto file = std::make_shared<PthFile>(checkpoint.path);
  for (const auto& [key, value] : find_state_dict(file->root(), checkpoint.path).entries) {
    const auto* name = key->as<std::string>();
    if (!name)
      refuse(codes::kCheckpointContent, checkpoint.path,
             "has " + key->description() + " for the name of a tensor");
    const auto* tensor = value->as<PickleTensor>();
    if (!tensor) {
      refuse(codes::kCheckpointContent, checkpoint.path,
             "holds " + value->description() + " under " + quote_name(*name) + " where a tensor is expected");
    }
    StoredTensor stored{tensor->sizes, [file, tensor, name = *name] { return file->load(*tensor, name); }};
    if (!checkpoint.tensors.emplace(*name, std::move(stored)).second) {
      refuse(codes::kCheckpointContent, checkpoint.path, "has the tensor " + quote_name(*name) + " twice");
    }
  }
  checkpoint.arguments = find_arguments(file->root());
}

std::string file_in_folder(const std::string& folder) {
  for (const char* name : {"model.safetensors", "pytorch_model.bin"}) {
    std::error_code ignored;
    const fs::path candidate = fs::path(folder) / name;
    if (fs::exists(candidate, ignored)) return candidate.string();
  }
  refuse(codes::kFileNotFound, folder, "is a folder without model.safetensors or pytorch_model.bin");
}

bool is_pth(const std::string& path) {
  const std::string extension = fs::path(path).extension().string();
  for (const char* known : {".pth", ".pt", ".bin", ".ckpt"}) {
    if (extension == known) return true;
  }
  if (extension == ".safetensors") return false;
  const InputFile file(path);
  std::array<char, 2> magic{};
  if (file.size() < magic.size()) return false;
  file.read_at(0, magic.data(), magic.size());
  return magic[0] == 'P' && magic[1] == 'K';
}

}  // namespace

StoredCheckpoint open_checkpoint(const std::string& path) {
  StoredCheckpoint checkpoint;
  std::error_code ignored;
  const bool folder = fs::is_directory(path, ignored);
  checkpoint.path = folder ? file_in_folder(path) : path;
  checkpoint.arguments = json::object();
  if (is_pth(checkpoint.path)) {
    add_pth(checkpoint);
  } else {
    add_safetensors(checkpoint);
  }
  if (checkpoint.tensors.empty()) refuse(codes::kCheckpointContent, checkpoint.path, "holds no tensors");

  const fs::path sidecar = fs::path(checkpoint.path).parent_path() / "config.json";
  if (!checkpoint.header && fs::is_regular_file(sidecar, ignored)) {
    json value = parse_json(read_text_file(sidecar.string(), kMaxSidecarBytes));
    if (value.is_object()) {
      checkpoint.sidecar = std::move(value);
    } else if (folder) {
      refuse(codes::kCheckpointFormat, sidecar.string(), "is not a JSON object");
    }
  }
  return checkpoint;
}

}  // namespace ltrp
