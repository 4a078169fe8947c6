// Geometry of the models and what loads them between JavaScript and the core. A configuration's fields have
// the names of its each(), as JavaScript spells them: mlp_dim is mlpDim.
#pragma once

#include <c10/core/Device.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>
#include <vector>

#include "binding/arguments.h"
#include "binding/node_api.h"
#include "core/checkpoint/checkpoint.h"
#include "core/device/precision.h"
#include "core/weights/config.h"

namespace ltrp::binding {

// mlp_dim -> mlpDim
std::string camel_case(const std::string& name);

Napi::Array to_javascript(Napi::Env env, const std::vector<std::string>& texts);
Napi::Array to_javascript(Napi::Env env, const std::array<double, 3>& values);

template <typename Config>
Napi::Object to_javascript(Napi::Env env, const Config& config) {
  Napi::Object object = Napi::Object::New(env);
  Config::each(config, [&](const char* name, const auto& field) {
    using Field = std::decay_t<decltype(field)>;
    const std::string key = camel_case(name);
    if constexpr (std::is_enum_v<Field>) {
      object.Set(key, name_of(field));
    } else if constexpr (std::is_same_v<Field, std::optional<TransformerConfig>>) {
      object.Set(key, field ? Napi::Value(to_javascript(env, *field)) : env.Null());
    } else if constexpr (std::is_same_v<Field, bool>) {
      object.Set(key, field);
    } else if constexpr (std::is_arithmetic_v<Field>) {
      object.Set(key, static_cast<double>(field));
    } else {
      object.Set(key, to_javascript(env, field));
    }
  });
  return object;
}

template <typename Config>
Config read_config(const Options& options) {
  Config config;
  Config::each(config, [&](const char* name, auto& field) {
    using Field = std::decay_t<decltype(field)>;
    const std::string camel = camel_case(name);
    const char* key = camel.c_str();
    const auto blocks = [&] {
      return read_config<TransformerConfig>(Options(options.get(key), options.path(key)));
    };
    if constexpr (std::is_enum_v<Field>) {
      field = options.one_of<Field>(key);
    } else if constexpr (std::is_same_v<Field, std::optional<TransformerConfig>>) {
      if (!options.get(key).IsNull()) field = blocks();
    } else if constexpr (std::is_same_v<Field, TransformerConfig>) {
      field = blocks();
    } else if constexpr (std::is_same_v<Field, bool>) {
      field = options.boolean(key);
    } else if constexpr (std::is_same_v<Field, int64_t>) {
      field = options.integer(key);
    } else if constexpr (std::is_same_v<Field, double>) {
      field = options.number(key);
    } else {
      field = options.three(key);
    }
  });
  return config;
}

// A complete configuration, checked by validate().
template <typename Config>
Config model_config(const Napi::Value& value, const std::string& name) {
  return validate(read_config<Config>(Options(value, name)));
}

// `weights` and `normalizedTarget` of whatever reads a checkpoint.
CheckpointOverrides checkpoint_overrides(const Options& options);

// The device of NativeLoadOptions. What cannot be used here is Error(kUnsupported) with the reason, what is
// no device Error(kInvalidArgument).
c10::Device load_device(const Options& options);

}  // namespace ltrp::binding
