#include "core/checkpoint/settings.h"

#include <cmath>
#include <initializer_list>
#include <tuple>

#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

using nlohmann::json;

// The first of these keys that is there; null otherwise.
const json* find(const json& object, std::initializer_list<const char*> keys) {
  if (!object.is_object()) return nullptr;
  for (const char* key : keys) {
    const auto found = object.find(key);
    if (found != object.end() && !found->is_null()) return &*found;
  }
  return nullptr;
}

std::optional<int64_t> positive(const json* value) {
  if (!value || !value->is_number_integer() || *value < 1 || *value > (int64_t{1} << 32)) return std::nullopt;
  return value->get<int64_t>();
}

std::optional<double> number(const json* value) {
  if (!value || !value->is_number()) return std::nullopt;
  return value->get<double>();
}

std::optional<bool> truth(const json* value) {
  if (!value || !value->is_boolean()) return std::nullopt;
  return value->get<bool>();
}

// 224, [224, 224], {"height": 224, "width": 224} or {"shortest_edge": 224}.
std::optional<std::pair<int64_t, int64_t>> size_pair(const json* value) {
  if (const auto both = positive(value)) return std::pair{*both, *both};
  std::optional<int64_t> height, width;
  if (value && value->is_array() && value->size() == 2) {
    height = positive(&(*value)[0]);
    width = positive(&(*value)[1]);
  } else if (value && value->is_object()) {
    height = positive(find(*value, {"height", "shortest_edge"}));
    width = positive(find(*value, {"width", "shortest_edge"}));
  }
  if (!height || !width || *height > 1 << 16 || *width > 1 << 16) return std::nullopt;
  return std::pair{*height, *width};
}

std::optional<std::array<double, 3>> triple(const StoredCheckpoint& checkpoint, const char* name,
                                            const json* value) {
  if (!value) return std::nullopt;
  std::array<double, 3> numbers{};
  bool good = value->is_array() && value->size() == numbers.size();
  for (size_t i = 0; good && i < numbers.size(); ++i) {
    good = (*value)[i].is_number();
    if (good) numbers[i] = (*value)[i].get<double>();
  }
  if (!good) refuse(checkpoint, std::string("has an ") + name + " beside it that is not three numbers");
  return numbers;
}

void read_preprocessor(const StoredCheckpoint& checkpoint, Settings& settings) {
  const json& config = checkpoint.preprocessor;
  if (!config.is_object()) return;
  settings.mean = triple(checkpoint, "image_mean", find(config, {"image_mean"}));
  settings.std = triple(checkpoint, "image_std", find(config, {"image_std"}));
  if (truth(find(config, {"do_normalize"})) == false) {
    settings.mean = {{0, 0, 0}};
    settings.std = {{1, 1, 1}};
  }
  // Pixels here are in [0, 1]; what scales them otherwise is the same as other means and deviations.
  double scale = 255 * number(find(config, {"rescale_factor"})).value_or(1.0 / 255);
  if (truth(find(config, {"do_rescale"})) == false) scale = 255;
  if (std::abs(scale - 1) > 1e-6 && settings.mean && settings.std && scale > 0) {
    for (double& value : *settings.mean) value /= scale;
    for (double& value : *settings.std) value /= scale;
  }
  const bool crops = truth(find(config, {"do_center_crop"})) == true;
  settings.picture_size = size_pair(crops ? find(config, {"crop_size", "size"}) : find(config, {"size"}));
}

}  // namespace

Settings read_settings(const StoredCheckpoint& checkpoint) {
  Settings settings;
  const json& config = checkpoint.sidecar;
  if (const auto size = size_pair(find(config, {"image_size", "img_size"})))
    std::tie(settings.image_height, settings.image_width) = *size;
  if (const auto patch = size_pair(find(config, {"patch_size"}))) {
    if (patch->first != patch->second)
      refuse(checkpoint, "has patches that are not square, according to its config.json");
    settings.patch_size = patch->first;
  }
  settings.encoder = {positive(find(config, {"hidden_size", "embed_dim", "dim"})),
                      positive(find(config, {"num_hidden_layers", "depth"})),
                      positive(find(config, {"num_attention_heads", "num_heads", "heads"})),
                      positive(find(config, {"intermediate_size"}))};
  settings.decoder = {positive(find(config, {"decoder_hidden_size", "decoder_embed_dim"})),
                      positive(find(config, {"decoder_num_hidden_layers", "decoder_depth"})),
                      positive(find(config, {"decoder_num_attention_heads", "decoder_num_heads"})),
                      positive(find(config, {"decoder_intermediate_size"}))};
  if (const json* eps = find(config, {"layer_norm_eps"})) settings.eps = *eps;
  read_preprocessor(checkpoint, settings);
  if (const json* timm = find(config, {"pretrained_cfg"}); timm && !settings.mean) {
    settings.mean = triple(checkpoint, "mean", find(*timm, {"mean"}));
    settings.std = triple(checkpoint, "std", find(*timm, {"std"}));
  }
  if (const auto ratio = number(find(config, {"mask_ratio"}))) {
    settings.notes.push_back("The mask_ratio " + json(*ratio).dump() +
                             " of its config.json is not used: every call has its own.");
  }
  return settings;
}

std::optional<double> Settings::layer_norm_eps(const char* kind) const {
  return number(eps.is_object() ? find(eps, {kind}) : &eps);
}

void check_supported(const StoredCheckpoint& checkpoint) {
  const json& config = checkpoint.sidecar;
  const auto unsupported = [&](const std::string& what) {
    throw Error(codes::kUnsupported,
                "'" + checkpoint.path + "' needs " + what + ", according to its config.json.");
  };
  if (const json* activation = find(config, {"hidden_act"});
      activation && *activation != "gelu" && *activation != "gelu_python") {
    unsupported("the activation " +
                quote_name(activation->is_string() ? activation->get<std::string>() : activation->dump()) +
                ", and only gelu is supported");
  }
  if (const auto channels = positive(find(config, {"num_channels", "in_chans"})); channels && *channels != 3)
    unsupported("pictures of " + std::to_string(*channels) + " channels, and only 3 are supported");
}

}  // namespace ltrp
