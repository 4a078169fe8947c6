#include "core/training/options_json.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "core/checkpoint/config_json.h"

namespace ltrp {

namespace {

using nlohmann::json;

template <typename Value>
json written(const Value& value) {
  if constexpr (std::is_enum_v<Value>) return name_of(value);
  return value;
}
template <typename Value>
json written(const std::optional<Value>& value) {
  return value ? json(*value) : json(nullptr);
}

// What came, for messages.
std::string shown(const json& value) {
  const std::string text = value.dump(-1, ' ', false, json::error_handler_t::replace);
  return text.size() > 60 ? text.substr(0, 59) + "…" : text;
}

// Values from JSON; `name` is the option's for what is refused.
[[noreturn]] void refuse_value(const std::string& name, const char* what, const json& value) {
  invalid(name + " must be " + what + "; got " + shown(value) + ".");
}

void read(const std::string& name, const json& from, std::vector<int64_t>& into) {
  const bool list = from.is_array() && std::all_of(from.begin(), from.end(), [](const json& value) {
                      return value.is_number_integer() && value.get<double>() < 0x1p63;
                    });
  if (!list) refuse_value(name, "a list of integers", from);
  into = from.get<std::vector<int64_t>>();
}
void read(const std::string& name, const json& from, std::array<double, 2>& into) {
  const bool two = from.is_array() && from.size() == 2 && from[0].is_number() && from[1].is_number();
  if (!two) refuse_value(name, "[least, most]", from);
  into = from.get<std::array<double, 2>>();
}
template <typename Value>
void read(const std::string& name, const json& from, Value& into) {
  if constexpr (std::is_same_v<Value, bool>) {
    if (!from.is_boolean()) refuse_value(name, "true or false", from);
    into = from.get<bool>();
  } else if constexpr (std::is_integral_v<Value>) {
    if (!from.is_number_integer() || from.get<double>() >= 0x1p63) refuse_value(name, "an integer", from);
    if (std::is_unsigned_v<Value> && from < 0) refuse_value(name, "an integer of at least 0", from);
    into = from.get<Value>();
  } else if constexpr (std::is_same_v<Value, double>) {
    if (!from.is_number()) refuse_value(name, "a number", from);
    into = from.get<double>();
  } else {
    const std::string word = from.is_string() ? from.get<std::string>() : std::string();
    if constexpr (std::is_enum_v<Value>) {
      into = value_of<Value>(name, word, shown(from));
    } else {
      if (!from.is_string()) refuse_value(name, "a string", from);
      into = word;
    }
  }
}
template <typename Value>
void read(const std::string& name, const json& from, std::optional<Value>& into) {
  if (from.is_null()) {
    into.reset();
  } else {
    read(name, from, into.emplace());
  }
}

struct Check {
  template <typename Value>
  void operator()(const char* name, const Value& value, Change, const Interval& allowed = {}) const {
    if constexpr (std::is_arithmetic_v<Value>) check_in(allowed, name, static_cast<double>(value));
  }
  template <typename Value>
  void operator()(const char* name, const std::optional<Value>& value, Change change,
                  const Interval& allowed = {}) const {
    if (value) (*this)(name, *value, change, allowed);
  }
  void operator()(const char* name, const std::array<double, 2>& value, Change,
                  const Interval& allowed) const {
    if (!allowed.contains(value[0]) || !allowed.contains(value[1]) || value[0] > value[1]) {
      invalid(std::string(name) + " must be [least, most], both " + text_of(allowed) + "; got [" +
              text_of(value[0]) + ", " + text_of(value[1]) + "].");
    }
  }
};

json parsed(const std::string& text) {
  json options = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!options.is_object()) invalid("options must be a JSON object.");
  return options;
}

template <typename Options>
void read_all(const json& from, Options& options) {
  Options::each(options, [&](const char* name, auto& value, Change change, const Interval& = {}) {
    const auto found = from.find(name);
    if (found != from.end()) return read(name, *found, value);
    if (change == Change::kFixed || change == Change::kMay) invalid(std::string(name) + " is missing.");
  });
}

}  // namespace

template <typename Options>
std::string to_json(const Options& options) {
  json result;
  Options::each(options, [&](const char* name, const auto& value, Change, const Interval& = {}) {
    result[name] = written(value);
  });
  result["model"] = config_to_json(options.model);
  return result.dump();
}

template <typename Options>
void read_options(const std::string& text, Options& options) {
  read_all(parsed(text), options);
}

template <typename Options>
void change_options(const std::string& text, Options& options) {
  json changes = parsed(text);
  Options::each(options, [&](const char* name, auto& value, Change change, const Interval& = {}) {
    const auto found = changes.find(name);
    const bool may = change == Change::kMay || change == Change::kMayOptional;
    if (found == changes.end() || !may) return;
    read(name, *found, value);
    changes.erase(found);
  });
  if (!changes.empty()) invalid(changes.begin().key() + " must stay as it is when this run is resumed.");
}

template <typename Options>
Options options_of_checkpoint(const std::string& text) {
  try {
    const json from = parsed(text);
    Options options;
    options.model = config_from_json<decltype(options.model)>(from.at("model"));
    read_all(from, options);
    return options;
  } catch (const std::exception& error) {
    throw Error(codes::kCheckpointContent,
                std::string("The training checkpoint's options cannot be read: ") + error.what());
  }
}

void validate(const FinetuneOptions& options) { FinetuneOptions::each(options, Check{}); }
void validate(const PretrainOptions& options) { PretrainOptions::each(options, Check{}); }
void validate(const RankerTrainingOptions& options) { RankerTrainingOptions::each(options, Check{}); }
void validate(const ScoreStoreOptions& options) { ScoreStoreOptions::each(options, Check{}); }

template std::string to_json(const FinetuneOptions&);
template std::string to_json(const PretrainOptions&);
template std::string to_json(const RankerTrainingOptions&);
template void read_options(const std::string&, FinetuneOptions&);
template void read_options(const std::string&, PretrainOptions&);
template void read_options(const std::string&, RankerTrainingOptions&);
template void read_options(const std::string&, ScoreStoreOptions&);
template void change_options(const std::string&, FinetuneOptions&);
template void change_options(const std::string&, PretrainOptions&);
template void change_options(const std::string&, RankerTrainingOptions&);
template FinetuneOptions options_of_checkpoint(const std::string&);
template PretrainOptions options_of_checkpoint(const std::string&);
template RankerTrainingOptions options_of_checkpoint(const std::string&);

}  // namespace ltrp
