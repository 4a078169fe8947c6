#include "core/checkpoint/checkpoint.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>
#include <c10/util/Exception.h>

#include <algorithm>
#include <new>
#include <set>

#include "core/checkpoint/geometry.h"
#include "core/checkpoint/names.h"
#include "core/checkpoint/state_dict.h"
#include "core/checkpoint/text.h"
#include "core/error.h"
#include "core/weights/positions.h"

namespace ltrp {
namespace {

// "'a' (and 2 more)"
std::string first_of(const std::vector<std::string>& names) {
  const std::string rest = names.size() > 1 ? " (and " + std::to_string(names.size() - 1) + " more)" : "";
  return quote_name(names.front()) + rest;
}

// The keys must be exactly those of the model, with its shapes. `omitted` are canonical names that the header
// explains.
void check_tensors(const StoredCheckpoint& checkpoint, const std::vector<ExpectedTensor>& expected,
                   const std::set<std::string>& omitted) {
  std::set<std::string> known;
  std::vector<std::string> missing, unexpected;
  for (const ExpectedTensor& tensor : expected) {
    if (omitted.count(tensor.canonical) != 0) continue;
    for (const std::string& name : tensor.stored) {
      known.insert(name);
      if (checkpoint.tensors.count(name) != 0) continue;
      const auto other = checkpoint.others.find(name);
      if (other != checkpoint.others.end()) {
        refuse(checkpoint, "holds " + other->second + " under " + quote_name(checkpoint.prefix + name) +
                               " where a tensor is expected");
      }
      missing.push_back(checkpoint.prefix + name);
    }
  }
  for (const auto& [name, stored] : checkpoint.tensors) {
    if (known.count(name) == 0) unexpected.push_back(stored.key);
  }
  if (!missing.empty()) refuse(checkpoint, "lacks the tensor " + first_of(missing));
  if (!unexpected.empty()) refuse(checkpoint, "has the unexpected tensor " + first_of(unexpected));
  for (const ExpectedTensor& tensor : expected) {
    if (omitted.count(tensor.canonical) != 0 || tensor.stored.empty()) continue;
    std::vector<int64_t> shape = tensor.shape;
    shape[0] /= static_cast<int64_t>(tensor.stored.size());
    for (const std::string& name : tensor.stored) {
      const StoredTensor& found = checkpoint.tensors.at(name);
      if (found.shape != shape) {
        refuse(checkpoint, "has the tensor " + quote_name(found.key) + " with the shape " +
                               shape_text(found.shape) + " instead of " + shape_text(shape));
      }
    }
  }
}

// Views may repeat few values many times, and headers cost nothing: what they describe must not be out of all
// proportion to the file.
void check_memory(const StoredCheckpoint& checkpoint, const std::vector<ExpectedTensor>& expected,
                  const std::set<std::string>& omitted) {
  constexpr uint64_t kUnquestioned = uint64_t{256} << 20;
  constexpr uint64_t kWidening = sizeof(float);  // a byte becomes a float at most
  uint64_t needed = 0, stored = 0;
  for (const ExpectedTensor& tensor : expected) {
    if (omitted.count(tensor.canonical) != 0) continue;
    uint64_t values = 1;
    for (const int64_t size : tensor.shape) values *= static_cast<uint64_t>(size);
    needed += values * sizeof(float);
    for (const std::string& name : tensor.stored) stored += checkpoint.tensors.at(name).bytes;
  }
  if (needed > kUnquestioned && needed / kWidening > stored) {
    throw Error(codes::kOutOfMemory, "'" + checkpoint.path + "' describes weights of " +
                                         std::to_string(needed >> 20) + " MiB and holds " +
                                         std::to_string(stored >> 20) +
                                         " MiB; so large a model must be stored in full.");
  }
}

TensorMap load_tensors(const StoredCheckpoint& checkpoint, const std::vector<ExpectedTensor>& expected,
                       const std::set<std::string>& omitted, const RunContext& context) {
  check_memory(checkpoint, expected, omitted);
  for (const ExpectedTensor& tensor : expected) {
    for (const std::string& name : tensor.stored) {
      if (omitted.count(tensor.canonical) != 0) continue;
      const StoredTensor& stored = checkpoint.tensors.at(name);
      if (at::isFloatingType(stored.type)) continue;
      refuse(checkpoint,
             "has the tensor " + quote_name(stored.key) + " with integers where weights are expected");
    }
  }
  TensorMap tensors;
  for (const ExpectedTensor& tensor : expected) {
    if (omitted.count(tensor.canonical) != 0) continue;
    at::Tensor values =
        tensor.stored.empty() ? at::zeros(tensor.shape, at::kFloat) : at::empty(tensor.shape, at::kFloat);
    float* destination = values.data_ptr<float>();
    for (const std::string& name : tensor.stored) {
      const StoredTensor& stored = checkpoint.tensors.at(name);
      if (!stored.read(destination, context))
        refuse(checkpoint, "has NaN or infinite values in the tensor " + quote_name(stored.key));
      destination += values.numel() / static_cast<int64_t>(tensor.stored.size());
    }
    tensors.emplace(tensor.canonical, std::move(values));
  }
  return tensors;
}

// Tables that our own layout leaves out because they can be computed.
std::set<std::string> omitted_tables(const StoredCheckpoint& checkpoint,
                                     const std::vector<ExpectedTensor>& expected) {
  std::set<std::string> omitted;
  if (!checkpoint.header) return omitted;
  for (const ExpectedTensor& tensor : expected) {
    if (!tensor.positions) continue;
    const std::string key = positions_key(tensor.canonical);
    const auto found = checkpoint.header->config.find(key);
    if (found == checkpoint.header->config.end() || *found == "stored") continue;
    if (*found != "sincos2d") refuse(checkpoint, "names unknown '" + key + "' in its header");
    omitted.insert(tensor.canonical);
  }
  return omitted;
}

TensorMap omitted_tensors(const StoredCheckpoint& checkpoint, const std::vector<ExpectedTensor>& expected,
                          const std::set<std::string>& omitted, Grid grid) {
  // A header alone must not order memory without limit: 128 MiB, 32,768 patches of the widest published
  // model.
  constexpr int64_t kMaxValues = int64_t{1} << 25;
  TensorMap tables;
  for (const ExpectedTensor& tensor : expected) {
    if (omitted.count(tensor.canonical) == 0) continue;
    const int64_t dim = tensor.shape.back();
    if (grid.patches() > kMaxValues / dim) {
      throw Error(codes::kOutOfMemory, "'" + checkpoint.path + "' asks for a position table of " +
                                           std::to_string(grid.patches()) +
                                           " patches, and so large a table must be in the file.");
    }
    tables[tensor.canonical] = sincos_positions(grid, dim);
  }
  return tables;
}

// Parts of other models that such files have, too.
void leave_out(StoredCheckpoint& checkpoint, const std::vector<std::string>& beginnings) {
  std::vector<std::string> names;
  std::erase_if(checkpoint.tensors, [&](const auto& entry) {
    const bool other = std::any_of(beginnings.begin(), beginnings.end(), [&](const std::string& beginning) {
      return entry.first.starts_with(beginning);
    });
    if (other) names.push_back(entry.second.key);
    return other;
  });
  if (!names.empty())
    checkpoint.note("Left out, since they are not part of the model: " + list_names(names, 120) + ".");
}

void check_overrides(const CheckpointOverrides& overrides, const StoredCheckpoint& checkpoint) {
  if (overrides.encoder_heads || overrides.decoder_heads || overrides.image_height || overrides.image_width) {
    throw Error(
        codes::kInvalidArgument,
        "'" + checkpoint.path + "' records its own geometry; heads and image size cannot be overridden.");
  }
}

// Everything LibTorch may throw on the way becomes one of our errors.
template <typename Function>
auto guarded(const std::string& path, const Function& function) {
  try {
    return function();
  } catch (const c10::OutOfMemoryError&) {
    throw Error(codes::kOutOfMemory, "There is not enough memory to load '" + path + "'.");
  } catch (const std::bad_alloc&) {
    throw Error(codes::kOutOfMemory, "There is not enough memory to load '" + path + "'.");
  } catch (const c10::Error& error) {
    const std::string text = error.what_without_backtrace();
    throw Error(codes::kInternal, "Loading '" + path + "' failed: " + text.substr(0, text.find('\n')));
  }
}

}  // namespace

LoadedModel load_model(const std::string& path, AnyConfig& config, const CheckpointOverrides& overrides,
                       const RunContext& context) {
  return guarded(path, [&] {
    StoredCheckpoint stored = open_checkpoint(path, config.kind(), overrides.weights, context);
    const Naming naming = naming_of(stored);
    const bool other_kind = stored.header && stored.header->kind != config.kind().word;
    if (!stored.header || other_kind) leave_out(stored, config.kind().left_out);
    if (stored.header) {
      check_overrides(overrides, stored);
      try {
        // What the header of another kind does not say keeps its default: there is no head.
        nlohmann::json fields = other_kind ? config.to_json() : nlohmann::json::object();
        fields.update(stored.header->config);
        config.from_json(fields);
      } catch (const Error& error) {
        throw Error(codes::kCheckpointContent,
                    "'" + stored.path + "' has an unusable header: " + error.what());
      }
      if (overrides.layer_norm_eps) config.vit().layer_norm_eps = *overrides.layer_norm_eps;
      bool* const normalized_target = config.normalized_target();
      if (overrides.normalized_target && normalized_target) *normalized_target = *overrides.normalized_target;
      config.validate();
    } else {
      infer_config(stored, naming, overrides, config);
    }
    const std::optional<Lacking> lacking = config.lacking();
    if (lacking && !overrides.incomplete) refuse(stored, lacking->refusal);
    if (lacking && (!stored.header || other_kind)) stored.note(lacking->note);

    const std::vector<ExpectedTensor> expected = expected_tensors(config, naming);
    const std::set<std::string> omitted = omitted_tables(stored, expected);
    check_tensors(stored, expected, omitted);
    // The tables first: they are refused before anything large is read.
    TensorMap tables = omitted_tensors(stored, expected, omitted, config.vit().grid());
    TensorMap tensors = load_tensors(stored, expected, omitted, context);
    tensors.merge(tables);
    if (!naming.qkv_bias) stored.note("Its attention has no biases of query, key and value; they are zero.");
    return LoadedModel{std::move(tensors), naming.name, std::move(stored.notes)};
  });
}

}  // namespace ltrp
