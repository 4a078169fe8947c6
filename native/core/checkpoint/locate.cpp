#include "core/checkpoint/locate.h"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string_view>

#include "core/checkpoint/config_json.h"
#include "core/checkpoint/file_io.h"
#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr uint64_t kMaxIndexBytes = uint64_t{16} << 20;
constexpr size_t kMaxShards = 1024;
constexpr std::string_view kIndexSuffix = ".index.json";

[[noreturn]] void refuse(const char* code, const std::string& path, const std::string& what) {
  throw Error(code, "'" + path + "' " + what + ".");
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

// model-00002-of-00003.safetensors: {"model", 2, 3, ".safetensors"}
struct ShardName {
  std::string stem;
  int64_t number = 0, total = 0;
  std::string total_digits, extension;
};

std::optional<ShardName> shard_name(const std::string& name) {
  const size_t of = name.rfind("-of-");
  const size_t dot = name.find('.', of == std::string::npos ? name.size() : of);
  if (of == std::string::npos || dot == std::string::npos) return std::nullopt;
  const size_t dash = name.rfind('-', of - 1);
  if (of == 0 || dash == std::string::npos) return std::nullopt;
  ShardName shard{name.substr(0, dash), 0, 0, name.substr(of + 4, dot - of - 4), name.substr(dot)};
  const auto parse = [](std::string_view digits, int64_t& value) {
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    return error == std::errc() && end == digits.data() + digits.size() && value > 0;
  };
  const std::string number = name.substr(dash + 1, of - dash - 1);
  if (!parse(number, shard.number) || !parse(shard.total_digits, shard.total) || shard.number > shard.total)
    return std::nullopt;
  return shard;
}

std::string shard_file(const ShardName& shard, int64_t number) {
  std::string digits = std::to_string(number);
  if (digits.size() < shard.total_digits.size())
    digits.insert(0, shard.total_digits.size() - digits.size(), '0');
  return shard.stem + "-" + digits + "-of-" + shard.total_digits + shard.extension;
}

LocatedModel from_index(const fs::path& path) {
  const std::string text = read_text_file(path.string(), kMaxIndexBytes);
  const json index = parse_shallow_json(text);
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object() || map->empty()) {
    refuse(codes::kCheckpointFormat, path.string(),
           "is no index of shards: it is not a JSON object with a weight_map from tensors to files");
  }
  LocatedModel model{path.string(), path.parent_path().string(), {}, {}};
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string())
      refuse(codes::kCheckpointFormat, path.string(), "names no file for the tensor " + quote_name(tensor));
    const auto& name = file.get_ref<const std::string&>();
    if (name.empty() || name == "." || name == ".." ||
        name.find_first_of(std::string_view("/\\\0", 3)) != std::string::npos) {
      refuse(codes::kCheckpointFormat, path.string(),
             "names the shard " + quote_name(name) + ", and a shard must be a file of the same folder");
    }
    model.shards[name].push_back(tensor);
    if (model.shards.size() > kMaxShards)
      refuse(codes::kCheckpointFormat, path.string(),
             "names more than " + std::to_string(kMaxShards) + " shards");
  }
  std::vector<std::string> missing;
  for (const auto& shard : model.shards) {
    if (!is_file(path.parent_path() / shard.first)) missing.push_back(shard.first);
  }
  if (!missing.empty()) {
    refuse(codes::kFileNotFound, path.string(),
           "is the index of " + std::to_string(model.shards.size()) + " shards, of which " +
               std::to_string(missing.size()) + (missing.size() == 1 ? " is" : " are") +
               " missing beside it: " + list_names(missing, 120));
  }
  return model;
}

// A file, with the other shards when it is one of several.
LocatedModel from_file(const fs::path& path) {
  const std::string name = path.filename().string();
  if (name.ends_with(kIndexSuffix)) return from_index(path);
  LocatedModel alone{path.string(), path.parent_path().string(), {}, {}};
  const auto shard = shard_name(name);
  if (!shard || shard->total == 1) return alone;
  std::string index_name = shard->stem + shard->extension;
  index_name += kIndexSuffix;
  const fs::path index = path.parent_path() / index_name;
  if (is_file(index)) {
    LocatedModel model = from_index(index);
    if (model.shards.contains(name)) return model;
  }
  const auto which = "shard " + std::to_string(shard->number) + " of " + std::to_string(shard->total);
  if (shard->total > static_cast<int64_t>(kMaxShards))
    refuse(codes::kCheckpointContent, path.string(), "is " + which + " of a model, which is too many");
  std::vector<std::string> missing;
  for (int64_t i = 1; i <= shard->total; ++i) {
    const std::string file = shard_file(*shard, i);
    alone.shards[file];
    if (!is_file(path.parent_path() / file)) missing.push_back(file);
  }
  if (missing.empty()) return alone;
  if (!is_file(path)) return {path.string(), path.parent_path().string(), {}, {}};
  refuse(codes::kFileNotFound, path.string(),
         "is " + which + " of a model, and of the others " + list_names(missing, 120) +
             (missing.size() == 1 ? " is" : " are") + " missing beside it");
}

// The newest checkpoint-NUMBER.safetensors of a run.
std::optional<fs::path> newest_checkpoint(const std::vector<std::string>& names, const fs::path& folder) {
  constexpr std::string_view kStem = "checkpoint-", kExtension = ".safetensors";
  int64_t newest = -1;
  std::optional<fs::path> found;
  for (const std::string& name : names) {
    if (!name.starts_with(kStem) || !name.ends_with(kExtension)) continue;
    const std::string_view digits =
        std::string_view(name).substr(kStem.size(), name.size() - kStem.size() - kExtension.size());
    int64_t step = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), step);
    if (error != std::errc() || end != digits.data() + digits.size() || step <= newest) continue;
    newest = step;
    found = folder / name;
  }
  return found;
}

LocatedModel from_run(const std::vector<std::string>& names, const fs::path& folder) {
  const auto checkpoint = newest_checkpoint(names, folder);
  const fs::path model = folder / "model.safetensors";
  std::error_code ignored;
  if (!checkpoint && !is_file(model)) {
    refuse(codes::kFileNotFound, folder.string(),
           "is the folder of a training run that has neither a model nor a checkpoint yet");
  }
  const bool newer = checkpoint && (!is_file(model) || fs::last_write_time(*checkpoint, ignored) >
                                                           fs::last_write_time(model, ignored));
  LocatedModel located = {(newer ? *checkpoint : model).string(), folder.string(), {}, {}};
  if (newer)
    located.notes.push_back("Of the training run, the checkpoint " +
                            quote_name(checkpoint->filename().string()) + " is taken.");
  return located;
}

LocatedModel from_folder(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error))
    names.push_back(entry->path().filename().string());
  if (error) {
    refuse(codes::kFileRead, folder.string(), "cannot be looked into: " + error.message());
  }
  std::sort(names.begin(), names.end());
  const auto there = [&](std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  if (there("run.json")) return from_run(names, folder);
  for (const char* name : {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin",
                           "pytorch_model.bin.index.json", "mp_rank_00_model_states.pt"}) {
    if (there(name)) return from_file(folder / name);
  }
  std::vector<std::string> candidates;
  bool distributed = there(".metadata");
  for (const std::string& name : names) {
    distributed = distributed || name.ends_with(".distcp");
    for (const char* extension : {".safetensors", ".pth", ".pt", ".bin", ".ckpt", ".index.json"}) {
      if (name.ends_with(extension)) {
        candidates.push_back(name);
        break;
      }
    }
  }
  if (distributed) {
    refuse(codes::kCheckpointFormat, folder.string(),
           "is a folder of torch.distributed.checkpoint; make one file of it with python -m "
           "torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER FILE.pt");
  }
  // Shards count as the one model that they are.
  std::set<std::string> models;
  for (const std::string& name : candidates) {
    const auto shard = shard_name(name);
    models.insert(shard                          ? shard->stem + shard->extension
                  : name.ends_with(kIndexSuffix) ? name.substr(0, name.size() - kIndexSuffix.size())
                                                 : name);
  }
  if (models.size() == 1) return from_file(folder / candidates.front());
  if (!models.empty()) {
    refuse(
        codes::kFileNotFound, folder.string(),
        "is a folder with several checkpoints and no model.safetensors or pytorch_model.bin; give one of " +
            list_names(candidates, 150));
  }
  refuse(codes::kFileNotFound, folder.string(),
         "is a folder without model.safetensors, pytorch_model.bin or another checkpoint; it holds " +
             (names.empty() ? "nothing" : list_names(names, 150)));
}

}  // namespace

LocatedModel locate_model(const std::string& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored) ? from_folder(path) : from_file(path);
}

}  // namespace ltrp
