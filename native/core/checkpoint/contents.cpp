#include "core/checkpoint/contents.h"

#include <array>
#include <filesystem>
#include <string_view>
#include <unordered_set>
#include <utility>

#include "core/checkpoint/file_format.h"
#include "core/checkpoint/pth.h"
#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/tensor_data.h"
#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

using nlohmann::json;

constexpr size_t kInventoryBytes = 190;
constexpr int kMaxDepth = 8;  // of dictionaries in each other
constexpr int kMaxModules = 32;
constexpr size_t kMaxListItems = 64;
constexpr size_t kMaxNames = 200'000;

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(codes::kCheckpointContent, "'" + path + "' " + what + ".");
}

// Parts of names that wrappers add: DDP, torch.compile, FSDP, activation checkpointing, Lightning, Opacus.
bool is_wrapper(std::string_view part) {
  for (const char* wrapper : {"module", "_module", "_orig_mod", "_fsdp_wrapped_module",
                              "_checkpoint_wrapped_module", "_forward_module"}) {
    if (part == wrapper) return true;
  }
  return false;
}

std::string without_wrappers(const std::string& name) {
  std::string result;
  size_t begin = 0;
  for (;;) {
    const size_t dot = name.find('.', begin);
    const std::string_view part = std::string_view(name).substr(begin, dot - begin);
    if (!is_wrapper(part)) {
      if (!result.empty()) result += '.';
      result += part;
    }
    if (dot == std::string::npos) return result;
    begin = dot + 1;
  }
}

// Renames all of it, unless two names would become one.
template <typename Entries>
bool strip(Entries& entries) {
  Entries stripped;
  for (const auto& [name, value] : entries) {
    if (!stripped.emplace(without_wrappers(name), value).second) return false;
  }
  entries = std::move(stripped);
  return true;
}

void strip_wrappers(Mapping& mapping) {
  if (strip(mapping.tensors)) strip(mapping.others);
}

// --- safetensors
// -----------------------------------------------------------------------------------------------------------

void add_safetensors(const std::string& path, FileContents& contents, const RunContext& context) {
  const auto reader = std::make_shared<const SafetensorsReader>(path, context);
  Mapping mapping;
  mapping.arguments = std::make_shared<json>(json::object());
  std::vector<std::string> names;
  for (const auto& [name, entry] : reader->header().tensors) {
    int64_t count = 1;
    for (const int64_t size : entry.shape) count *= size;
    const auto read = [reader, entry = entry, count](float* destination, const RunContext& running) {
      return read_floats(reader->file(), reader->offset_of(entry), entry.type, count, destination, running);
    };
    mapping.tensors.emplace(name, StoredTensor{name, entry.shape, entry.type, entry.end - entry.begin, read});
    names.push_back(name);
  }
  contents.inventory = names.empty() ? "no tensors" : "the tensors " + list_names(names, kInventoryBytes);
  contents.metadata = reader->header().metadata;
  strip_wrappers(mapping);
  contents.mappings.push_back(std::move(mapping));
}

// --- pickles
// ---------------------------------------------------------------------------------------------------------------

void add_plain_values(const PickleDict& fields, json& arguments) {
  for (const auto& [key, value] : fields.entries) {
    const auto* name = key->as<std::string>();
    if (!name) continue;
    if (const auto* truth = value->as<bool>()) arguments[*name] = *truth;
    if (const auto* integer = value->as<int64_t>()) arguments[*name] = *integer;
    if (const auto* number = value->as<double>()) arguments[*name] = *number;
  }
}

// The attributes of an object, or the dictionary itself.
const PickleDict* fields_of(PickleRef value) {
  if (const auto* opaque = value->as<PickleOpaque>()) value = opaque->state;
  return value ? value->as<PickleDict>() : nullptr;
}

class PickleWalk {
 public:
  PickleWalk(std::shared_ptr<const PthFile> file, FileContents& contents, const RunContext& context)
      : file_(std::move(file)), contents_(contents), context_(context) {}

  void run() { visit(file_->root(), {}, std::make_shared<const json>(json::object())); }

 private:
  using Arguments = std::shared_ptr<const json>;

  void visit(PickleRef value, const std::vector<std::string>& place, const Arguments& arguments) {
    context_.check();
    if (place.size() > kMaxDepth || !visited_.insert(value).second) return;
    if (const auto* dict = value->as<PickleDict>()) return visit_dict(*dict, place, arguments);
    if (const auto* opaque = value->as<PickleOpaque>(); opaque && fields_of(value)) {
      Mapping mapping{place, {}, {}, arguments};
      add_module(value, "", 0, mapping);
      if (!mapping.tensors.empty()) add(std::move(mapping));
      visit_entries(*fields_of(value), place, arguments);
      return;
    }
    const auto* list = value->as<PickleList>();
    const auto* tuple = value->as<PickleTuple>();
    if (!list && !tuple) return;
    const std::vector<PickleRef>& items = list ? list->items : tuple->items;
    for (size_t i = 0; i < items.size() && i < kMaxListItems; ++i)
      visit(items[i], extended(place, std::to_string(i)), arguments);
  }

  void visit_dict(const PickleDict& dict, const std::vector<std::string>& place, Arguments arguments) {
    for (const char* name : {"args", "hyper_parameters", "hparams", "config", "cfg", "opt"}) {
      const PickleRef found = find_key(dict, name);
      const PickleDict* fields = found ? fields_of(found) : nullptr;
      if (!fields) continue;
      json merged = *arguments;
      add_plain_values(*fields, merged);
      arguments = std::make_shared<const json>(std::move(merged));
    }
    Mapping mapping{place, {}, {}, arguments};
    for (const auto& [key, value] : dict.entries) {
      const auto* name = key->as<std::string>();
      if (name) add_entry(*name, value, mapping);
    }
    if (!mapping.tensors.empty()) add(std::move(mapping));
    visit_entries(dict, place, arguments);
  }

  void visit_entries(const PickleDict& dict, const std::vector<std::string>& place,
                     const Arguments& arguments) {
    for (const auto& [key, value] : dict.entries) {
      const auto* name = key->as<std::string>();
      const auto* number = key->as<int64_t>();
      if (name || number) visit(value, extended(place, name ? *name : std::to_string(*number)), arguments);
    }
  }

  static std::vector<std::string> extended(std::vector<std::string> place, const std::string& key) {
    place.push_back(key);
    return place;
  }

  // A module as torch.save(model) pickles it: attributes, with tensors and other modules in dictionaries.
  void add_module(PickleRef value, const std::string& prefix, int depth, Mapping& mapping) {
    if (depth > kMaxModules || names_ > kMaxNames) return;
    const PickleDict* fields = fields_of(value);
    for (const auto& [key, field] : fields->entries) {
      ++names_;
      const auto* name = key->as<std::string>();
      if (!name) continue;
      const bool members = *name == "_parameters" || *name == "_buffers" || *name == "_modules";
      if (members && field->as<PickleDict>()) {
        add_module(field, prefix, depth + 1, mapping);
      } else if (field->as<PickleTensor>()) {
        add_entry(prefix + *name, field, mapping);
      } else if (field->as<PickleOpaque>() && fields_of(field)) {
        add_module(field, prefix + *name + ".", depth + 1, mapping);
      }
    }
  }

  void add_entry(const std::string& name, PickleRef value, Mapping& mapping) {
    const auto* tensor = value->as<PickleTensor>();
    if (!tensor) {  // of two entries with one key the last counts, as in Python
      mapping.others[name] = value->description();
      mapping.tensors.erase(name);
      return;
    }
    mapping.others.erase(name);
    const auto read = [file = file_, tensor, name](float* destination, const RunContext& running) {
      return file->read(*tensor, name, destination, running);
    };
    const uint64_t bytes =
        static_cast<uint64_t>(tensor->storage->elements) * c10::elementSize(tensor->storage->type);
    StoredTensor stored{name, tensor->sizes, tensor->type, bytes, read};
    if (!mapping.tensors.emplace(name, std::move(stored)).second)
      refuse(path(), "has the tensor " + quote_name(name) + " twice");
  }

  void add(Mapping mapping) {
    strip_wrappers(mapping);
    contents_.mappings.push_back(std::move(mapping));
  }

  const std::string& path() const { return file_->path(); }

  std::shared_ptr<const PthFile> file_;
  FileContents& contents_;
  const RunContext& context_;
  std::unordered_set<PickleRef> visited_;
  size_t names_ = 0;
};

// "a dict of 'a', 'b' and 3 more"
std::string describe(PickleRef value) {
  const auto* dict = value->as<PickleDict>();
  if (!dict || dict->entries.empty()) return value->description();
  std::vector<std::string> names;
  for (const auto& entry : dict->entries) {
    const auto* name = entry.first->as<std::string>();
    names.push_back(name ? *name : entry.first->description());
  }
  return "a dict of " + list_names(names, 60);
}

std::string inventory_of(PickleRef root) {
  const auto* dict = root->as<PickleDict>();
  if (!dict) return root->description();
  std::string text = "the keys ";
  size_t left = dict->entries.size();
  if (left == 0) return "an empty dict";
  for (const auto& [key, value] : dict->entries) {
    const auto* name = key->as<std::string>();
    const std::string entry = (name ? quote_name(*name) : key->description()) + " (" + describe(value) + ")";
    if (left < dict->entries.size()) {
      if (text.size() + entry.size() > kInventoryBytes) break;
      text += ", ";
    }
    text += entry;
    --left;
  }
  return left == 0 ? text : text + " and " + std::to_string(left) + " more";
}

void add_pth(const std::string& path, FileContents& contents, const RunContext& context) {
  const auto file = std::make_shared<const PthFile>(path, context);
  const PickleRef root = file->root();
  contents.inventory = inventory_of(root);
  if (const auto* dict = root->as<PickleDict>()) {
    for (const auto& entry : dict->entries) {
      if (const auto* name = entry.first->as<std::string>()) contents.keys.insert(*name);
    }
  }
  PickleWalk(file, contents, context).run();
}

}  // namespace

FileContents read_contents(const std::string& path, const RunContext& context) {
  FileContents contents;
  const FileFormat format = checkpoint_format(InputFile(path));
  if (format == FileFormat::kZip) {
    add_pth(path, contents, context);
  } else {
    add_safetensors(path, contents, context);
  }
  return contents;
}

FileContents read_shards(const std::string& folder,
                         const std::map<std::string, std::vector<std::string>>& shards,
                         const RunContext& context) {
  FileContents all;
  all.mappings.emplace_back();
  Mapping& mapping = all.mappings.front();
  mapping.arguments = std::make_shared<json>(json::object());
  for (const auto& [name, wanted] : shards) {
    const std::string path = (std::filesystem::path(folder) / name).string();
    const FileContents shard = read_contents(path, context);
    StateDict tensors;  // as the file spells them
    for (const Mapping& part : shard.mappings) {
      if (!part.place.empty()) continue;
      for (const auto& entry : part.tensors) tensors.emplace(entry.second.key, entry.second);
    }
    std::vector<std::string> taken = wanted;
    if (taken.empty()) {
      for (const auto& entry : tensors) taken.push_back(entry.first);
    }
    for (const std::string& key : taken) {
      const auto found = tensors.find(key);
      if (found == tensors.end())
        refuse(path, "lacks the tensor " + quote_name(key) + ", which the index says is in this shard");
      if (!mapping.tensors.emplace(key, found->second).second)
        refuse(path, "has the tensor " + quote_name(key) + ", which another shard has too");
    }
  }
  std::vector<std::string> names;
  for (const auto& entry : mapping.tensors) names.push_back(entry.first);
  all.inventory = names.empty() ? "no tensors" : "the tensors " + list_names(names, kInventoryBytes);
  strip_wrappers(mapping);
  return all;
}

}  // namespace ltrp
