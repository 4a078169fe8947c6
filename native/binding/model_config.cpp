#include "binding/model_config.h"

#include <cctype>

#include "core/device/accelerators.h"

namespace ltrp::binding {

std::string camel_case(const std::string& name) {
  std::string result;
  for (size_t i = 0; i < name.size(); ++i) {
    if (name[i] == '_') {
      result += static_cast<char>(std::toupper(static_cast<unsigned char>(name[++i])));
    } else {
      result += name[i];
    }
  }
  return result;
}

Napi::Array to_javascript(Napi::Env env, const std::array<double, 3>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); ++i) array[i] = Napi::Number::New(env, values[i]);
  return array;
}

Napi::Array to_javascript(Napi::Env env, const std::vector<std::string>& texts) {
  Napi::Array array = Napi::Array::New(env, texts.size());
  for (uint32_t i = 0; i < texts.size(); ++i) array[i] = Napi::String::New(env, texts[i]);
  return array;
}

CheckpointOverrides checkpoint_overrides(const Options& options) {
  CheckpointOverrides overrides;
  if (options.has("weights")) overrides.weights = options.string("weights");
  if (overrides.weights == "") invalid("weights must be the name of one of the file's models; got \"\".");
  if (options.has("normalizedTarget")) overrides.normalized_target = options.boolean("normalizedTarget");
  return overrides;
}

c10::Device load_device(const Options& options) { return choose_device(options.string("device", "auto")); }

}  // namespace ltrp::binding
