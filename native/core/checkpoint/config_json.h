// A model's configuration as JSON: the "config" of our safetensors header, of training state and of tools.
// Keys are the names that its each() gives; enumerations are words.
#pragma once

#include <array>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <type_traits>

#include "core/error.h"
#include "core/weights/config.h"

namespace ltrp {

// JSON from a file that may be hostile: null when it is not valid or nested more than eight deep, which no
// configuration is.
nlohmann::json parse_shallow_json(const std::string& text);

template <typename Config>
nlohmann::json config_to_json(const Config& config);

// The inverse, exact. Every key is required, unknown ones are ignored, and the result is validated.
// Error(kCheckpointContent) naming the key.
template <typename Config>
Config config_from_json(const nlohmann::json& value);

namespace config_json {

template <typename Field>
nlohmann::json written(const Field& field) {
  if constexpr (std::is_enum_v<Field>) {
    return name_of(field);
  } else if constexpr (requires { field.has_value(); }) {
    return field ? written(*field) : nlohmann::json(nullptr);
  } else if constexpr (std::is_class_v<Field> && !requires { field.size(); }) {
    return config_to_json(field);
  } else {
    return field;
  }
}

[[noreturn]] void refuse(const std::string& what);
const nlohmann::json& member(const nlohmann::json& object, const char* key);
void read(const nlohmann::json& value, const char* key, int64_t& into);
void read(const nlohmann::json& value, const char* key, double& into);
void read(const nlohmann::json& value, const char* key, bool& into);
void read(const nlohmann::json& value, const char* key, std::array<double, 3>& into);
void read(const nlohmann::json& value, const char* key, std::optional<TransformerConfig>& into);

template <typename Field>
void read(const nlohmann::json& value, const char* key, Field& into) {
  if constexpr (std::is_enum_v<Field>) {
    std::string words;
    for (const auto& [candidate, name] : Names<Field>::all) {
      if (value == name) {
        into = candidate;
        return;
      }
      words += std::string(words.empty() ? "'" : " or '") + name + "'";
    }
    refuse("needs " + words + " for '" + key + "'");
  } else {
    Field::each(
        into, [&](const char* inner, auto& field) { config_json::read(member(value, inner), inner, field); });
  }
}

}  // namespace config_json

template <typename Config>
nlohmann::json config_to_json(const Config& config) {
  nlohmann::json value = nlohmann::json::object();
  Config::each(config, [&](const char* key, const auto& field) { value[key] = config_json::written(field); });
  return value;
}

template <typename Config>
Config config_from_json(const nlohmann::json& value) {
  Config config;
  config_json::read(value, "config", config);
  try {
    validate(config);
  } catch (const Error& error) {
    config_json::refuse(std::string("is not usable: ") + error.what());
  }
  return config;
}

}  // namespace ltrp
