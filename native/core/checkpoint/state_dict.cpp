#include "core/checkpoint/state_dict.h"

#include <algorithm>
#include <filesystem>
#include <utility>

#include "core/checkpoint/config_json.h"
#include "core/checkpoint/contents.h"
#include "core/checkpoint/file_io.h"
#include "core/checkpoint/locate.h"
#include "core/checkpoint/model_choice.h"
#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMaxSidecarBytes = 1 << 20;
constexpr const char* kFormat = "ltrp-1";
constexpr const char* kTrainingFormat = "ltrp-training-";

[[noreturn]] void refuse(const char* code, const std::string& path, const std::string& what) {
  throw Error(code, "'" + path + "' " + what + ".");
}

const std::string& field(const FileContents& contents, const std::string& path, const char* name) {
  const auto found = contents.metadata.find(name);
  if (found == contents.metadata.end())
    refuse(codes::kCheckpointFormat, path, std::string("lacks '") + name + "' in its header");
  return found->second;
}

json object_field(const FileContents& contents, const std::string& path, const char* name) {
  json value = parse_shallow_json(field(contents, path, name));
  if (!value.is_object()) {
    refuse(codes::kCheckpointFormat, path,
           std::string("has a '") + name + "' in its header that is not a JSON object");
  }
  return value;
}

// Our own files say all there is to know in their header; nothing when this is not one.
std::optional<OwnHeader> own_header(const FileContents& contents, const std::string& path) {
  const auto format = contents.metadata.find("format");
  if (format == contents.metadata.end() || !format->second.starts_with("ltrp-")) return std::nullopt;
  if (format->second.starts_with(kTrainingFormat)) {  // a run's state: the model is among the options
    json options = object_field(contents, path, "options");
    json config = options.is_object() && options.contains("model") ? options["model"] : json();
    if (!config.is_object()) refuse(codes::kCheckpointFormat, path, "does not say what model its run trains");
    const std::string& run = field(contents, path, "kind");
    return OwnHeader{run == "pretrain" ? "mae" : run, std::move(config)};
  }
  if (format->second != kFormat) {
    refuse(codes::kUnsupported, path,
           "has the layout " + quote_name(format->second) + ", and this version of ltrp reads " + kFormat);
  }
  return OwnHeader{field(contents, path, "kind"), object_field(contents, path, "config")};
}

void check_own_kind(const StoredCheckpoint& checkpoint, const ModelKind& wanted) {
  const std::string& kind = checkpoint.header->kind;
  if (kind == wanted.word) return;
  // As of foreign files: whoever wants no more than an encoder takes that of an autoencoder.
  if (kind == "mae" && std::ranges::count(wanted.from, Content::kAutoencoder) != 0) return;
  const bool word =
      kind.size() < 20 && std::all_of(kind.begin(), kind.end(), [](char c) { return c >= 'a' && c <= 'z'; });
  refuse(codes::kCheckpointContent, checkpoint.path,
         "holds " +
             (kind == "mae" ? "an autoencoder"
              : word        ? "a " + kind
                            : "something else") +
             ", not " + wanted.phrase);
}

// A JSON object beside the weights; null when there is none. In a folder of a model it belongs to it and must
// be readable, beside a lone file it may be anything.
json read_sidecar(const std::string& folder, const char* name, bool required, StoredCheckpoint& checkpoint) {
  const fs::path path = fs::path(folder) / name;
  std::error_code ignored;
  if (!fs::is_regular_file(path, ignored)) return {};
  json value = parse_shallow_json(read_text_file(path.string(), kMaxSidecarBytes));
  if (value.is_object()) return value;
  if (required) refuse(codes::kCheckpointFormat, path.string(), "is not a JSON object");
  checkpoint.note(std::string("The ") + name + " beside it is not a JSON object and is not used.");
  return {};
}

}  // namespace

bool any_starts_with(const StateDict& tensors, const std::string& prefix) {
  const auto first = tensors.lower_bound(prefix);
  return first != tensors.end() && first->first.starts_with(prefix);
}

void StoredCheckpoint::note(const std::string& sentence) { notes.push_back(sentence); }

void refuse(const StoredCheckpoint& checkpoint, const std::string& what) {
  throw Error(codes::kCheckpointContent, "'" + checkpoint.path + "' " + what + ".");
}

StoredCheckpoint open_checkpoint(const std::string& path, const ModelKind& kind,
                                 const std::optional<std::string>& weights, const RunContext& context) {
  const LocatedModel located = locate_model(path);
  StoredCheckpoint checkpoint;
  checkpoint.path = located.path;
  checkpoint.notes = located.notes;
  checkpoint.arguments = json::object();
  const FileContents contents = located.shards.empty() ? read_contents(located.path, context)
                                                       : read_shards(located.folder, located.shards, context);
  checkpoint.header = own_header(contents, checkpoint.path);
  if (checkpoint.header) check_own_kind(checkpoint, kind);
  const bool training = checkpoint.header && contents.metadata.at("format").starts_with(kTrainingFormat);
  if (checkpoint.header && !training) {
    if (weights) {
      refuse(codes::kCheckpointContent, checkpoint.path,
             "has no weights named " + quote_name(*weights) + "; it is one model");
    }
    checkpoint.tensors = contents.mappings.front().tensors;
    return checkpoint;
  }
  choose_model(contents, kind, weights, checkpoint);
  if (training) {
    const auto step = contents.metadata.find("step");
    if (step != contents.metadata.end())
      checkpoint.note("These are the weights of a training run after " + step->second.substr(0, 20) +
                      " steps.");
    return checkpoint;
  }
  std::error_code ignored;
  const bool folder = fs::is_directory(path, ignored);
  checkpoint.sidecar = read_sidecar(located.folder, "config.json", folder, checkpoint);
  checkpoint.preprocessor = read_sidecar(located.folder, "preprocessor_config.json", folder, checkpoint);
  return checkpoint;
}

}  // namespace ltrp
