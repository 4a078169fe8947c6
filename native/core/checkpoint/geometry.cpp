#include "core/checkpoint/geometry.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <utility>

#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

using nlohmann::json;

[[noreturn]] void refuse(const StoredCheckpoint& checkpoint, const std::string& what) {
  throw Error(codes::kCheckpointContent, "'" + checkpoint.path + "' " + what + ".");
}

// Collects what different tensors say about one size.
class Vote {
 public:
  explicit Vote(const StateDict& tensors) : tensors_(tensors) {}

  Vote& add(const std::string& name, size_t rank, size_t axis, int64_t offset = 0) {
    const auto found = tensors_.find(name);
    if (found != tensors_.end() && found->second.shape.size() == rank)
      count(found->second.shape[axis] + offset);
    return *this;
  }
  void count(int64_t value) {
    const auto known =
        std::find_if(votes_.begin(), votes_.end(), [&](const auto& vote) { return vote.first == value; });
    if (known == votes_.end()) {
      votes_.emplace_back(value, 1);
    } else {
      ++known->second;
    }
  }
  // The most frequent value, of equally frequent ones the first; nothing when no tensor was there.
  std::optional<int64_t> winner() const {
    const auto best = std::max_element(votes_.begin(), votes_.end(),
                                       [](const auto& a, const auto& b) { return a.second < b.second; });
    if (best == votes_.end()) return std::nullopt;
    return best->first;
  }

 private:
  const StateDict& tensors_;
  std::vector<std::pair<int64_t, int>> votes_;
};

// 1 + the largest block index after `prefix`.
int64_t count_blocks(const StateDict& tensors, const std::string& prefix) {
  constexpr int64_t kMaxBlocks = 1024;
  int64_t count = 0;
  for (auto it = tensors.lower_bound(prefix);
       it != tensors.end() && it->first.compare(0, prefix.size(), prefix) == 0; ++it) {
    const char* begin = it->first.data() + prefix.size();
    const char* end = it->first.data() + it->first.size();
    int64_t index = 0;
    const auto [rest, error] = std::from_chars(begin, end, index);
    if (error != std::errc() || rest == end || *rest != '.' || index < 0 || index >= kMaxBlocks) continue;
    count = std::max(count, index + 1);
  }
  return count;
}

TransformerConfig infer_transformer(const StateDict& tensors, const BlockNames& names,
                                    std::optional<int64_t> dim) {
  TransformerConfig config;
  config.depth = count_blocks(tensors, names.prefix);
  Vote dims(tensors), hidden(tensors);
  for (int64_t i = 0; i < config.depth; ++i) {
    const std::string block = names.prefix + std::to_string(i) + ".";
    for (const std::string& norm : {names.norm1, names.norm2}) {
      dims.add(block + norm + ".weight", 1, 0).add(block + norm + ".bias", 1, 0);
    }
    hidden.add(block + names.fc1 + ".weight", 2, 0).add(block + names.fc1 + ".bias", 1, 0);
    hidden.add(block + names.fc2 + ".weight", 2, 1);
  }
  config.dim = dims.winner().value_or(dim.value_or(0));
  config.mlp_dim = hidden.winner().value_or(4 * config.dim);
  return config;
}

// --- what a config.json says
// -----------------------------------------------------------------------------------------------

// Whole number from 1 up under `key`; absent otherwise.
std::optional<int64_t> positive(const json& object, const char* key) {
  if (!object.is_object()) return std::nullopt;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number_integer() || *found < 1 || *found > (int64_t{1} << 32))
    return std::nullopt;
  return found->get<int64_t>();
}

std::optional<double> number(const json& object, const char* key) {
  if (!object.is_object()) return std::nullopt;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_number()) return std::nullopt;
  return found->get<double>();
}

std::optional<bool> truth(const json& object, const char* key) {
  if (!object.is_object()) return std::nullopt;
  const auto found = object.find(key);
  if (found == object.end() || !found->is_boolean()) return std::nullopt;
  return found->get<bool>();
}

// Hugging Face allows 224 and [224, 224].
std::optional<std::pair<int64_t, int64_t>> size_pair(const json& object, const char* key) {
  if (const auto both = positive(object, key)) return std::pair{*both, *both};
  if (!object.is_object() || !object.contains(key)) return std::nullopt;
  const json& value = object[key];
  const auto usable = [](const json& side) {
    return side.is_number_integer() && side >= 1 && side <= (1 << 16);
  };
  if (!value.is_array() || value.size() != 2 || !usable(value[0]) || !usable(value[1])) return std::nullopt;
  return std::pair{value[0].get<int64_t>(), value[1].get<int64_t>()};
}

struct Hints {
  std::optional<int64_t> image_height, image_width, patch_size;
  std::optional<int64_t> dim, depth, heads, mlp_dim;
  std::optional<int64_t> decoder_dim, decoder_depth, decoder_heads, decoder_mlp_dim;
  std::optional<double> mae_eps, ranker_eps;
  std::optional<bool> normalized_target;
};

Hints read_hugging_face_config(const StoredCheckpoint& checkpoint) {
  const json& config = checkpoint.sidecar;
  Hints hints;
  if (const auto size = size_pair(config, "image_size"))
    std::tie(hints.image_height, hints.image_width) = *size;
  if (const auto patch = size_pair(config, "patch_size")) {
    if (patch->first != patch->second)
      refuse(checkpoint, "has patches that are not square, according to its config.json");
    hints.patch_size = patch->first;
  }
  hints.dim = positive(config, "hidden_size");
  hints.depth = positive(config, "num_hidden_layers");
  hints.heads = positive(config, "num_attention_heads");
  hints.mlp_dim = positive(config, "intermediate_size");
  hints.decoder_dim = positive(config, "decoder_hidden_size");
  hints.decoder_depth = positive(config, "decoder_num_hidden_layers");
  hints.decoder_heads = positive(config, "decoder_num_attention_heads");
  hints.decoder_mlp_dim = positive(config, "decoder_intermediate_size");
  hints.mae_eps = number(config, "layer_norm_eps");
  hints.normalized_target = truth(config, "norm_pix_loss");
  const auto activation = config.find("hidden_act");
  if (activation != config.end() && *activation != "gelu") {
    throw Error(codes::kUnsupported,
                "'" + checkpoint.path + "' needs the activation " +
                    quote_name(activation->is_string() ? activation->get<std::string>() : "?") +
                    ", according to its config.json; only gelu is supported.");
  }
  return hints;
}

Hints read_plain_config(const json& config) {
  Hints hints;
  if (const auto size = size_pair(config, "img_size"))
    std::tie(hints.image_height, hints.image_width) = *size;
  hints.patch_size = positive(config, "patch_size");
  hints.dim = positive(config, "embed_dim");
  hints.depth = positive(config, "depth");
  hints.heads = positive(config, "num_heads");
  hints.decoder_dim = positive(config, "decoder_embed_dim");
  hints.decoder_depth = positive(config, "decoder_depth");
  hints.decoder_heads = positive(config, "decoder_num_heads");
  const auto eps = config.find("layer_norm_eps");
  if (eps != config.end() && eps->is_object()) {
    hints.mae_eps = number(*eps, "mae");
    hints.ranker_eps = number(*eps, "ranker");
  }
  hints.normalized_target = truth(config, "norm_pix_loss");
  return hints;
}

bool is_hugging_face(const ModelNames& names) { return names.naming.rfind("hf-", 0) == 0; }

// A config.json beside a lone file may belong to something else: it counts only when it describes these
// tensors.
template <typename Config>
bool describes(const Hints& hints, const Config& config) {
  return hints.dim == config.encoder.dim && hints.depth == config.encoder.depth &&
         hints.patch_size == config.patch_size;
}

// --- completing
// ------------------------------------------------------------------------------------------------------------

int64_t choose_heads(const StoredCheckpoint& checkpoint, const char* part, int64_t dim,
                     std::optional<int64_t> override_value, std::optional<int64_t> hint,
                     std::optional<int64_t> recorded,
                     std::initializer_list<std::pair<int64_t, int64_t>> published, int64_t usual_width) {
  if (override_value) {
    if (*override_value < 1 || dim % *override_value != 0) {
      throw Error(codes::kInvalidArgument, std::string(part) + " heads must divide the width " +
                                               std::to_string(dim) + " of '" + checkpoint.path + "'; " +
                                               std::to_string(*override_value) + " does not.");
    }
    return *override_value;
  }
  if (hint) return *hint;
  if (recorded) return *recorded;
  for (const auto& [width, heads] : published) {
    if (width == dim) return heads;
  }
  if (dim > 0 && dim % usual_width == 0) return dim / usual_width;
  const bool decoder = std::string(part) == "decoder";
  refuse(checkpoint, std::string("does not say how many attention heads its ") + part + " of width " +
                         std::to_string(dim) +
                         " has; put a config.json with patch_size, embed_dim, depth, num_heads" +
                         (decoder ? ", decoder_embed_dim and decoder_num_heads" : "") +
                         " beside it, or set " + part + "_heads");
}

int64_t encoder_heads(const StoredCheckpoint& checkpoint, int64_t dim, std::optional<int64_t> override_value,
                      std::optional<int64_t> hint) {
  return choose_heads(checkpoint, "encoder", dim, override_value, hint,
                      positive(checkpoint.arguments, "num_heads"),
                      {{192, 3}, {384, 6}, {768, 12}, {1024, 16}, {1280, 16}}, 64);
}

template <typename Config>
void infer_encoder(const StoredCheckpoint& checkpoint, const ModelNames& names, Config& config) {
  const StateDict& tensors = checkpoint.tensors;
  const auto patch = Vote(tensors)
                         .add(names.patch_embed + ".weight", 4, 2)
                         .add(names.patch_embed + ".weight", 4, 3)
                         .winner();
  const auto dim = Vote(tensors)
                       .add(names.cls_token, 3, 2)
                       .add(names.pos_embed, 3, 2)
                       .add(names.patch_embed + ".bias", 1, 0)
                       .add(names.norm + ".weight", 1, 0)
                       .winner();
  config.encoder = infer_transformer(tensors, names.blocks, dim);
  if (!dim || config.encoder.depth == 0) {
    refuse(checkpoint, "holds no model that is known: it has neither " + quote_name(names.cls_token) +
                           " and " + quote_name(names.blocks.prefix + "0.*") +
                           " nor the names of another known layout");
  }
  // Without the patch embedding its weight will be reported missing; any size serves until then.
  config.patch_size = patch.value_or(config.patch_size);
}

// Rows of the position tables say how many patches there are, a size says how they lie; the square is the
// default.
template <typename Config>
void choose_image_size(const StoredCheckpoint& checkpoint, const ModelNames& names, const Hints& hints,
                       const CheckpointOverrides& overrides, std::optional<int64_t> patches, Config& config) {
  if (overrides.image_height.has_value() != overrides.image_width.has_value()) {
    throw Error(codes::kInvalidArgument, "Of the image height and width both or none must be given.");
  }
  if (overrides.image_height) {
    config.image_height = *overrides.image_height;
    config.image_width = *overrides.image_width;
    return;
  }
  if (hints.image_height && hints.image_width) {
    config.image_height = *hints.image_height;
    config.image_width = *hints.image_width;
    return;
  }
  const int64_t count = patches.value_or(0);
  const auto side =
      static_cast<int64_t>(std::llround(std::sqrt(static_cast<double>(std::max<int64_t>(count, 0)))));
  if (count < 1 || count > (int64_t{1} << 32) || side * side != count) {
    refuse(checkpoint, "has " + quote_name(names.pos_embed) + " for " + std::to_string(count) +
                           " patches, which is no square grid; put a config.json with patch_size, embed_dim, "
                           "depth and img_size [height, "
                           "width] beside it, or set image_height and image_width");
  }
  config.image_height = side * config.patch_size;
  config.image_width = side * config.patch_size;
}

template <typename Config>
void validate_inferred(const StoredCheckpoint& checkpoint, const Config& config) {
  try {
    validate(config);
  } catch (const Error& error) {
    refuse(checkpoint, std::string("describes a model that cannot be: ") + error.what());
  }
}

template <typename T>
void replace(T& value, const std::optional<T>& known) {
  if (known) value = *known;
}

}  // namespace

MaeConfig infer_mae_config(const StoredCheckpoint& checkpoint, const ModelNames& names,
                           const CheckpointOverrides& overrides) {
  const StateDict& tensors = checkpoint.tensors;
  MaeConfig config;
  infer_encoder(checkpoint, names, config);
  if (has_decoder(tensors, names)) {
    const auto dim = Vote(tensors)
                         .add(names.decoder_embed + ".bias", 1, 0)
                         .add(names.decoder_embed + ".weight", 2, 0)
                         .add(names.mask_token, 3, 2)
                         .add(names.decoder_norm + ".weight", 1, 0)
                         .winner();
    config.decoder = infer_transformer(tensors, names.decoder_blocks, dim);
  }

  Hints hints;
  if (is_hugging_face(names)) {
    if (checkpoint.sidecar.is_object()) hints = read_hugging_face_config(checkpoint);
    config.layer_norm_eps = 1e-12;  // Hugging Face's own default
    // Here config.json and tensors belong together: where they disagree, the tensor is at fault and will be
    // named.
    replace(config.patch_size, hints.patch_size);
    replace(config.encoder.dim, hints.dim);
    replace(config.encoder.depth, hints.depth);
    replace(config.encoder.mlp_dim, hints.mlp_dim);
    if (config.decoder) {
      replace(config.decoder->dim, hints.decoder_dim);
      replace(config.decoder->depth, hints.decoder_depth);
      replace(config.decoder->mlp_dim, hints.decoder_mlp_dim);
    }
  } else {
    if (checkpoint.sidecar.is_object()) hints = read_plain_config(checkpoint.sidecar);
    if (!describes(hints, config)) hints = {};
    if (config.decoder && hints.decoder_dim != config.decoder->dim) hints.decoder_heads.reset();
    config.layer_norm_eps = 1e-6;
  }

  Vote rows(tensors);
  rows.add(names.pos_embed, 3, 1, -1).add(names.decoder_pos_embed, 3, 1, -1);
  choose_image_size(checkpoint, names, hints, overrides, rows.winner(), config);
  config.encoder.heads = encoder_heads(checkpoint, config.encoder.dim, overrides.encoder_heads, hints.heads);
  if (config.decoder) {
    config.decoder->heads =
        choose_heads(checkpoint, "decoder", config.decoder->dim, overrides.decoder_heads, hints.decoder_heads,
                     positive(checkpoint.arguments, "decoder_num_heads"), {{512, 16}}, 32);
  }
  replace(config.layer_norm_eps, hints.mae_eps);
  replace(config.layer_norm_eps, overrides.layer_norm_eps);
  replace(config.normalized_target, truth(checkpoint.arguments, "norm_pix_loss"));
  replace(config.normalized_target, hints.normalized_target);
  replace(config.normalized_target, overrides.normalized_target);
  validate_inferred(checkpoint, config);
  return config;
}

RankerConfig infer_ranker_config(const StoredCheckpoint& checkpoint, const ModelNames& names,
                                 const CheckpointOverrides& overrides) {
  const StateDict& tensors = checkpoint.tensors;
  RankerConfig config;
  infer_encoder(checkpoint, names, config);
  Hints hints;
  if (checkpoint.sidecar.is_object()) hints = read_plain_config(checkpoint.sidecar);
  if (!describes(hints, config)) hints = {};

  Vote logits(tensors);
  logits.add(names.head + ".weight", 2, 0).add(names.head + ".bias", 1, 0);
  Vote rows(tensors);
  rows.add(names.pos_embed, 3, 1, -1);
  config.head = logits.winner() == 1 && rows.winner() != 1 ? RankerHead::kToken : RankerHead::kCls;
  if (config.head == RankerHead::kCls && logits.winner()) {  // the head knows the number of patches too
    rows.add(names.head + ".weight", 2, 0).add(names.head + ".bias", 1, 0);
  }
  choose_image_size(checkpoint, names, hints, overrides, rows.winner(), config);
  config.encoder.heads = encoder_heads(checkpoint, config.encoder.dim, overrides.encoder_heads, hints.heads);
  replace(config.layer_norm_eps, hints.ranker_eps);
  replace(config.layer_norm_eps, overrides.layer_norm_eps);
  validate_inferred(checkpoint, config);
  return config;
}

}  // namespace ltrp
