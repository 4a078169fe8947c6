#include "core/checkpoint/checkpoint.h"

#include <ATen/ops/cat.h>
#include <c10/util/Exception.h>

#include <cmath>
#include <limits>
#include <new>
#include <set>

#include "core/checkpoint/config_json.h"
#include "core/checkpoint/geometry.h"
#include "core/checkpoint/names.h"
#include "core/checkpoint/state_dict.h"
#include "core/checkpoint/text.h"
#include "core/error.h"
#include "core/model/positions.h"

namespace ltrp {
namespace {

[[noreturn]] void refuse(const StoredCheckpoint& checkpoint, const std::string& what) {
  throw Error(codes::kCheckpointContent, "'" + checkpoint.path + "' " + what + ".");
}

// "'a' (and 2 more)"
std::string first_of(const std::vector<std::string>& names) {
  const std::string rest = names.size() > 1 ? " (and " + std::to_string(names.size() - 1) + " more)" : "";
  return quote_name(names.front()) + rest;
}

bool is_foreign(const ModelNames& names, const std::string& key) {
  for (const std::string& prefix : names.foreign) {
    if (key.compare(0, prefix.size(), prefix) == 0) return true;
  }
  return false;
}

// The keys must be exactly those of the model, with its shapes. `omitted` are canonical names that the header
// explains.
void check_tensors(const StoredCheckpoint& checkpoint, const ModelNames& names,
                   const std::vector<ExpectedTensor>& expected, const std::set<std::string>& omitted) {
  std::set<std::string> known;
  std::vector<std::string> missing, unexpected;
  for (const ExpectedTensor& tensor : expected) {
    if (omitted.count(tensor.canonical) != 0) continue;
    for (const std::string& name : tensor.stored) {
      known.insert(name);
      if (checkpoint.tensors.count(name) == 0) missing.push_back(name);
    }
  }
  for (const auto& [name, stored] : checkpoint.tensors) {
    if (known.count(name) == 0 && !is_foreign(names, name)) unexpected.push_back(name);
  }
  if (!missing.empty()) refuse(checkpoint, "lacks the tensor " + first_of(missing));
  if (!unexpected.empty()) refuse(checkpoint, "has the unexpected tensor " + first_of(unexpected));
  for (const ExpectedTensor& tensor : expected) {
    if (omitted.count(tensor.canonical) != 0) continue;
    std::vector<int64_t> shape = tensor.shape;
    shape[0] /= static_cast<int64_t>(tensor.stored.size());
    for (const std::string& name : tensor.stored) {
      const std::vector<int64_t>& found = checkpoint.tensors.at(name).shape;
      if (found != shape) {
        refuse(checkpoint, "has the tensor " + quote_name(name) + " with the shape " + shape_text(found) +
                               " instead of " + shape_text(shape));
      }
    }
  }
}

at::Tensor load_tensor(const StoredCheckpoint& checkpoint, const std::string& name) {
  const at::Tensor stored = checkpoint.tensors.at(name).load();
  if (!at::isFloatingType(stored.scalar_type())) {
    refuse(checkpoint, "has the tensor " + quote_name(name) + " with integers where weights are expected");
  }
  const at::Tensor tensor = stored.to(at::kFloat).contiguous();
  const float* values = tensor.data_ptr<float>();
  bool finite = true;
  for (int64_t i = 0; i < tensor.numel(); ++i)
    finite &= std::fabs(values[i]) <= std::numeric_limits<float>::max();
  if (!finite) refuse(checkpoint, "has NaN or infinite values in the tensor " + quote_name(name));
  return tensor;
}

TensorMap load_tensors(const StoredCheckpoint& checkpoint, const std::vector<ExpectedTensor>& expected,
                       const std::set<std::string>& omitted) {
  TensorMap tensors;
  for (const ExpectedTensor& tensor : expected) {
    if (omitted.count(tensor.canonical) != 0) continue;
    std::vector<at::Tensor> parts;
    for (const std::string& name : tensor.stored) parts.push_back(load_tensor(checkpoint, name));
    tensors.emplace(tensor.canonical, parts.size() == 1 ? parts[0] : at::cat(parts, 0));
  }
  return tensors;
}

// Tables that our own layout leaves out because they can be computed.
std::set<std::string> omitted_tables(const StoredCheckpoint& checkpoint) {
  std::set<std::string> omitted;
  if (!checkpoint.header) return omitted;
  for (const auto& [key, table] :
       {std::pair{"positions", "pos_embed"}, {"decoder_positions", "decoder_pos_embed"}}) {
    const auto found = checkpoint.header->config.find(key);
    if (found == checkpoint.header->config.end() || *found == "stored") continue;
    if (*found != "sincos2d") refuse(checkpoint, std::string("names unknown '") + key + "' in its header");
    omitted.insert(table);
  }
  return omitted;
}

void add_omitted_tables(const StoredCheckpoint& checkpoint, const std::set<std::string>& omitted, Grid grid,
                        int64_t dim, std::optional<int64_t> decoder_dim, TensorMap& tensors) {
  constexpr int64_t kMaxValues = int64_t{1} << 28;  // a header alone must not order memory without limit
  if (grid.patches() > kMaxValues / std::max(dim, decoder_dim.value_or(1))) {
    refuse(checkpoint,
           "asks for a position table of " + std::to_string(grid.patches()) + " patches, which is too large");
  }
  if (omitted.count("pos_embed") != 0) tensors["pos_embed"] = sincos_positions(grid, dim);
  if (omitted.count("decoder_pos_embed") != 0 && decoder_dim) {
    tensors["decoder_pos_embed"] = sincos_positions(grid, *decoder_dim);
  }
}

template <typename Config>
Config own_config(const StoredCheckpoint& checkpoint) {
  try {
    return config_from_json<Config>(checkpoint.header->config);
  } catch (const Error& error) {
    refuse(checkpoint, std::string("has an unusable header: ") + error.what());
  }
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

MaeCheckpoint load_mae_checkpoint(const std::string& path, bool require_decoder,
                                  const CheckpointOverrides& overrides) {
  return guarded(path, [&] {
    const StoredCheckpoint stored = open_checkpoint(path);
    const ModelNames names = mae_names(stored);
    MaeCheckpoint checkpoint;
    checkpoint.naming = names.naming;
    if (stored.header) {
      check_overrides(overrides, stored);
      checkpoint.config = own_config<MaeConfig>(stored);
      if (overrides.layer_norm_eps) checkpoint.config.layer_norm_eps = *overrides.layer_norm_eps;
      if (overrides.normalized_target) checkpoint.config.normalized_target = *overrides.normalized_target;
      validate(checkpoint.config);
    } else {
      checkpoint.config = infer_mae_config(stored, names, overrides);
    }
    if (require_decoder && !checkpoint.config.decoder) {
      refuse(stored,
             "has no decoder and can neither reconstruct nor score: files like mae_pretrain_vit_base.pth "
             "hold the encoder "
             "alone, take mae_visualize_vit_base.pth");
    }
    const std::set<std::string> omitted = omitted_tables(stored);
    const auto expected = expected_tensors(checkpoint.config, names);
    check_tensors(stored, names, expected, omitted);
    checkpoint.tensors = load_tensors(stored, expected, omitted);
    const auto& decoder = checkpoint.config.decoder;
    add_omitted_tables(stored, omitted, checkpoint.config.grid(), checkpoint.config.encoder.dim,
                       decoder ? std::optional(decoder->dim) : std::nullopt, checkpoint.tensors);
    return checkpoint;
  });
}

RankerCheckpoint load_ranker_checkpoint(const std::string& path, const CheckpointOverrides& overrides) {
  return guarded(path, [&] {
    const StoredCheckpoint stored = open_checkpoint(path);
    const ModelNames names = ranker_names(stored);
    RankerCheckpoint checkpoint;
    checkpoint.naming = names.naming;
    if (stored.header) {
      check_overrides(overrides, stored);
      checkpoint.config = own_config<RankerConfig>(stored);
      if (overrides.layer_norm_eps) checkpoint.config.layer_norm_eps = *overrides.layer_norm_eps;
      validate(checkpoint.config);
    } else {
      checkpoint.config = infer_ranker_config(stored, names, overrides);
    }
    const std::set<std::string> omitted = omitted_tables(stored);
    const auto expected = expected_tensors(checkpoint.config, names);
    check_tensors(stored, names, expected, omitted);
    checkpoint.tensors = load_tensors(stored, expected, omitted);
    add_omitted_tables(stored, omitted, checkpoint.config.grid(), checkpoint.config.encoder.dim, std::nullopt,
                       checkpoint.tensors);
    return checkpoint;
  });
}

}  // namespace ltrp
