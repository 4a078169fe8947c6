#include "core/checkpoint/config_json.h"

#include "core/error.h"

namespace ltrp {

using nlohmann::json;

namespace config_json {

void refuse(const std::string& what) {
  throw Error(codes::kCheckpointContent, "The model configuration " + what + ".");
}

const json& member(const json& object, const char* key) {
  if (!object.is_object()) refuse("is not a JSON object where '" + std::string(key) + "' is expected");
  const auto found = object.find(key);
  if (found == object.end()) refuse("lacks '" + std::string(key) + "'");
  return *found;
}

void read(const json& value, const char* key, int64_t& into) {
  const bool fits = value.is_number_integer() && (!value.is_number_unsigned() ||
                                                  value.get<uint64_t>() <= static_cast<uint64_t>(INT64_MAX));
  if (!fits) refuse("needs a whole number for '" + std::string(key) + "'");
  into = value.get<int64_t>();
}

void read(const json& value, const char* key, double& into) {
  if (!value.is_number()) refuse("needs a number for '" + std::string(key) + "'");
  into = value.get<double>();
}

void read(const json& value, const char* key, bool& into) {
  if (!value.is_boolean()) refuse("needs true or false for '" + std::string(key) + "'");
  into = value.get<bool>();
}

void read(const json& value, const char* key, std::array<double, 3>& into) {
  if (!value.is_array() || value.size() != into.size())
    refuse("needs three numbers for '" + std::string(key) + "'");
  for (size_t i = 0; i < into.size(); ++i) {
    if (!value[i].is_number()) refuse("needs three numbers for '" + std::string(key) + "'");
    into[i] = value[i].get<double>();
  }
}

void read(const json& value, const char* key, std::optional<TransformerConfig>& into) {
  if (value.is_null()) {
    into.reset();
  } else {
    read(value, key, into.emplace());
  }
}

}  // namespace config_json

json parse_shallow_json(const std::string& text) {
  constexpr int kMaxDepth = 8;
  bool too_deep = false;
  json value = json::parse(
      text,
      [&](int depth, json::parse_event_t, json&) {
        too_deep = too_deep || depth > kMaxDepth;
        return !too_deep;
      },
      /*allow_exceptions=*/false);
  return too_deep || value.is_discarded() ? json() : value;
}

}  // namespace ltrp
