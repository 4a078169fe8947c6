// Model geometry as JSON: the "config" of our safetensors header, of training state and of tools.
//
// Keys are the field names of config.h: image_height, image_width, patch_size, encoder {dim, depth, heads,
// mlp_dim}, decoder (the same or null), layer_norm_eps, normalized_target, head ("cls" or "token"), mean,
// std.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "core/model/config.h"

namespace ltrp {

nlohmann::json config_to_json(const MaeConfig& config);
nlohmann::json config_to_json(const RankerConfig& config);

// The inverse, exact. Every key is required, unknown ones are ignored, and the result is validated.
// Error(kCheckpointContent) naming the key. MaeConfig and RankerConfig only.
template <typename Config>
Config config_from_json(const nlohmann::json& value);
template <>
MaeConfig config_from_json<MaeConfig>(const nlohmann::json& value);
template <>
RankerConfig config_from_json<RankerConfig>(const nlohmann::json& value);

}  // namespace ltrp
