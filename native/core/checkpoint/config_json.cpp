#include "core/checkpoint/config_json.h"

#include "core/error.h"

namespace ltrp {
namespace {

using nlohmann::json;

[[noreturn]] void refuse(const std::string& what) {
  throw Error(codes::kCheckpointContent, "The model configuration " + what + ".");
}

const json& member(const json& object, const char* key) {
  if (!object.is_object()) refuse("is not a JSON object where '" + std::string(key) + "' is expected");
  const auto found = object.find(key);
  if (found == object.end()) refuse("lacks '" + std::string(key) + "'");
  return *found;
}

int64_t integer(const json& object, const char* key) {
  const json& value = member(object, key);
  const bool fits = value.is_number_integer() && (!value.is_number_unsigned() ||
                                                  value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
  if (!fits) refuse("needs a whole number for '" + std::string(key) + "'");
  return value.get<int64_t>();
}

double number(const json& object, const char* key) {
  const json& value = member(object, key);
  if (!value.is_number()) refuse("needs a number for '" + std::string(key) + "'");
  return value.get<double>();
}

bool truth(const json& object, const char* key) {
  const json& value = member(object, key);
  if (!value.is_boolean()) refuse("needs true or false for '" + std::string(key) + "'");
  return value.get<bool>();
}

std::array<double, 3> triple(const json& object, const char* key) {
  const json& value = member(object, key);
  std::array<double, 3> numbers{};
  if (!value.is_array() || value.size() != numbers.size())
    refuse("needs three numbers for '" + std::string(key) + "'");
  for (size_t i = 0; i < numbers.size(); ++i) {
    if (!value[i].is_number()) refuse("needs three numbers for '" + std::string(key) + "'");
    numbers[i] = value[i].get<double>();
  }
  return numbers;
}

json transformer_to_json(const TransformerConfig& config) {
  return {{"dim", config.dim}, {"depth", config.depth}, {"heads", config.heads}, {"mlp_dim", config.mlp_dim}};
}

TransformerConfig transformer_from_json(const json& value) {
  return {integer(value, "dim"), integer(value, "depth"), integer(value, "heads"), integer(value, "mlp_dim")};
}

// What both models have.
template <typename Config>
json common_to_json(const Config& config) {
  return {{"image_height", config.image_height},
          {"image_width", config.image_width},
          {"patch_size", config.patch_size},
          {"encoder", transformer_to_json(config.encoder)},
          {"layer_norm_eps", config.layer_norm_eps},
          {"mean", config.mean},
          {"std", config.std}};
}

template <typename Config>
Config common_from_json(const json& value) {
  Config config;
  config.image_height = integer(value, "image_height");
  config.image_width = integer(value, "image_width");
  config.patch_size = integer(value, "patch_size");
  config.encoder = transformer_from_json(member(value, "encoder"));
  config.layer_norm_eps = number(value, "layer_norm_eps");
  config.mean = triple(value, "mean");
  config.std = triple(value, "std");
  return config;
}

template <typename Config>
Config validated(Config config) {
  try {
    validate(config);
  } catch (const Error& error) {
    throw Error(codes::kCheckpointContent,
                "The model configuration is not usable: " + std::string(error.what()));
  }
  return config;
}

}  // namespace

json config_to_json(const MaeConfig& config) {
  json value = common_to_json(config);
  value["decoder"] = config.decoder ? transformer_to_json(*config.decoder) : json(nullptr);
  value["normalized_target"] = config.normalized_target;
  return value;
}

json config_to_json(const RankerConfig& config) {
  json value = common_to_json(config);
  value["head"] = config.head == RankerHead::kCls ? "cls" : "token";
  return value;
}

template <>
MaeConfig config_from_json<MaeConfig>(const json& value) {
  auto config = common_from_json<MaeConfig>(value);
  const json& decoder = member(value, "decoder");
  if (!decoder.is_null()) config.decoder = transformer_from_json(decoder);
  config.normalized_target = truth(value, "normalized_target");
  return validated(config);
}

template <>
RankerConfig config_from_json<RankerConfig>(const json& value) {
  auto config = common_from_json<RankerConfig>(value);
  const json& head = member(value, "head");
  if (head != "cls" && head != "token") refuse("needs 'cls' or 'token' for 'head'");
  config.head = head == "cls" ? RankerHead::kCls : RankerHead::kToken;
  return validated(config);
}

}  // namespace ltrp
