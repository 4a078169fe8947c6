#include "core/checkpoint/safetensors_header.h"

#include <algorithm>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>
#include <utility>

#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

using nlohmann::json;

constexpr size_t kMaxTensors = 100'000;
constexpr size_t kMaxRank = 64;

struct TypeName {
  const char* name;
  at::ScalarType type;
};
constexpr TypeName kTypes[] = {{"F64", at::kDouble},
                               {"F32", at::kFloat},
                               {"F16", at::kHalf},
                               {"BF16", at::kBFloat16},
                               {"F8_E4M3", at::kFloat8_e4m3fn},
                               {"F8_E5M2", at::kFloat8_e5m2},
                               {"I64", at::kLong},
                               {"I32", at::kInt},
                               {"I16", at::kShort},
                               {"I8", at::kChar},
                               {"U64", at::kUInt64},
                               {"U32", at::kUInt32},
                               {"U16", at::kUInt16},
                               {"U8", at::kByte},
                               {"BOOL", at::kBool}};

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(codes::kCheckpointFormat, "'" + path + "' is not a valid safetensors file: " + what + ".");
}

// Takes the parser's events. Errors leave the parser as exceptions.
class HeaderEvents : public nlohmann::json_sax<json> {
 public:
  HeaderEvents(const std::string& path, const RunContext& context) : path_(path), context_(context) {}

  SafetensorsHeader take() { return std::move(header_); }

  bool null() override { return scalar(nullptr, nullptr); }
  bool boolean(bool) override { return scalar(nullptr, nullptr); }
  bool number_integer(number_integer_t) override { return scalar(nullptr, nullptr); }
  bool number_unsigned(number_unsigned_t value) override { return scalar(&value, nullptr); }
  bool number_float(number_float_t, const string_t&) override { return scalar(nullptr, nullptr); }
  bool string(string_t& value) override { return scalar(nullptr, &value); }
  bool binary(binary_t&) override { return false; }

  bool start_object(std::size_t) override {
    if (place_ == Place::kStart) {
      place_ = Place::kTop;
    } else if (place_ == Place::kTop) {
      place_ = name_ == kSafetensorsMetadata ? Place::kMetadata : Place::kTensor;
      fields_ = 0;
      entry_ = {};
    } else {
      refuse(path_, "its header is nested too deeply");
    }
    return true;
  }

  bool end_object() override {
    if (place_ == Place::kTensor) add_tensor();
    place_ = place_ == Place::kTop ? Place::kEnd : Place::kTop;
    return true;
  }

  bool key(string_t& value) override {
    context_.check();
    if (place_ == Place::kTop) {
      const bool again = value == kSafetensorsMetadata ? has_metadata_ : header_.tensors.contains(value);
      if (again) refuse(path_, "its header has the key " + quote_name(value) + " twice");
      has_metadata_ = has_metadata_ || value == kSafetensorsMetadata;
      name_ = value;
    } else if (place_ == Place::kMetadata) {
      if (header_.metadata.contains(value))
        refuse(path_, "its header has the key " + quote_name(value) + " twice");
      field_name_ = value;
    } else {
      field_ = value == "dtype" ? kDtype : value == "shape" ? kShape : value == "data_offsets" ? kOffsets : 0;
      if (field_ == 0) refuse_fields();
      if ((fields_ & field_) != 0) refuse(path_, "its header has the key " + quote_name(value) + " twice");
      fields_ |= field_;
    }
    return true;
  }

  bool start_array(std::size_t) override {
    if (place_ == Place::kStart) refuse(path_, "its header is not a JSON object");
    if (place_ == Place::kTop) refuse_value();
    if (place_ == Place::kMetadata) refuse_metadata();
    if (in_array_) refuse(path_, "its header is nested too deeply");
    if (field_ == kDtype) refuse_type("array");
    in_array_ = true;
    numbers_.clear();
    return true;
  }

  bool end_array() override {
    in_array_ = false;
    if (field_ == kShape) {
      entry_.shape.assign(numbers_.begin(), numbers_.end());
    } else {
      if (numbers_.size() != 2)
        refuse(path_, "the data_offsets of tensor " + quote_name(name_) + " are not two numbers");
      entry_.begin = numbers_[0];
      entry_.end = numbers_[1];
    }
    return true;
  }

  bool parse_error(std::size_t, const std::string&, const json::exception&) override {
    refuse(path_, "its header is not valid JSON in UTF-8");
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kEnd };
  enum Field { kDtype = 1, kShape = 2, kOffsets = 4, kAllFields = 7 };

  [[noreturn]] void refuse_fields() const {
    refuse(path_, "tensor " + quote_name(name_) + " must have exactly dtype, shape and data_offsets");
  }
  [[noreturn]] void refuse_value() const {
    if (name_ == kSafetensorsMetadata) refuse(path_, "its __metadata__ is not an object");
    refuse_fields();
  }
  [[noreturn]] void refuse_metadata() const {
    refuse(path_, "the entry " + quote_name(field_name_) + " of its __metadata__ is not a string");
  }
  [[noreturn]] void refuse_type(const std::string& type) const {
    refuse(path_, "tensor " + quote_name(name_) + " has the unknown dtype " + quote_name(type));
  }

  // Anything but an object or an array: a number from 0 up, a text, or neither.
  bool scalar(const uint64_t* number, const std::string* text) {
    if (place_ == Place::kStart) refuse(path_, "its header is not a JSON object");
    if (place_ == Place::kTop) refuse_value();
    if (place_ == Place::kMetadata) {
      if (!text) refuse_metadata();
      header_.metadata.emplace(field_name_, *text);
    } else if (in_array_) {
      add_number(number);
    } else if (field_ == kDtype) {
      if (!text) refuse_type("?");
      const auto* known = std::find_if(std::begin(kTypes), std::end(kTypes),
                                       [&](const TypeName& type) { return *text == type.name; });
      if (known == std::end(kTypes)) refuse_type(*text);
      entry_.type = known->type;
    } else if (field_ == kShape) {
      refuse_shape();
    } else {
      refuse(path_, "the data_offsets of tensor " + quote_name(name_) + " are not two numbers");
    }
    return true;
  }

  [[noreturn]] void refuse_shape() const {
    refuse(path_, "the shape of tensor " + quote_name(name_) + " is not a list of up to " +
                      std::to_string(kMaxRank) + " sizes");
  }

  void add_number(const uint64_t* number) {
    if (!number)
      refuse(path_, "tensor " + quote_name(name_) + " has a size that is not a whole number from 0 up");
    if (numbers_.size() >= kMaxRank) refuse_shape();
    if (field_ == kShape && *number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
      refuse_size();
    numbers_.push_back(*number);
  }

  [[noreturn]] void refuse_size() const {
    refuse(path_, "tensor " + quote_name(name_) + " is larger than 64 bits can count");
  }

  void add_tensor() {
    if (fields_ != kAllFields) refuse_fields();
    // Sizes are multiplied even when one of them is 0, so that strides cannot overflow later.
    uint64_t bytes = c10::elementSize(entry_.type);
    bool empty = false;
    for (const int64_t size : entry_.shape) {
      empty = empty || size == 0;
      if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(std::max<int64_t>(size, 1)), &bytes) ||
          bytes > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
        refuse_size();
      }
    }
    if (empty) bytes = 0;
    if (entry_.end < entry_.begin || entry_.end - entry_.begin != bytes) {
      refuse(path_, "the data_offsets of tensor " + quote_name(name_) + " do not fit its shape and dtype (" +
                        std::to_string(bytes) + " bytes)");
    }
    if (header_.tensors.size() >= kMaxTensors)
      refuse(path_, "its header has more than " + std::to_string(kMaxTensors) + " tensors");
    header_.tensors.emplace(name_, std::move(entry_));
  }

  const std::string& path_;
  const RunContext& context_;
  SafetensorsHeader header_;
  Place place_ = Place::kStart;
  bool has_metadata_ = false;
  bool in_array_ = false;
  int fields_ = 0, field_ = 0;
  std::string name_, field_name_;
  std::vector<uint64_t> numbers_;
  SafetensorsEntry entry_;
};

void check_coverage(const std::string& path, const SafetensorsHeader& header, uint64_t data_bytes) {
  using Named = std::map<std::string, SafetensorsEntry>::value_type;
  std::vector<const Named*> entries;
  for (const Named& entry : header.tensors) entries.push_back(&entry);
  std::sort(entries.begin(), entries.end(), [](const Named* a, const Named* b) {
    return std::tie(a->second.begin, a->second.end) < std::tie(b->second.begin, b->second.end);
  });
  uint64_t covered = 0;
  for (const Named* entry : entries) {
    if (entry->second.begin != covered) {
      refuse(path,
             "tensor " + quote_name(entry->first) + " " +
                 (entry->second.begin < covered ? "overlaps the one before it" : "leaves a hole before it"));
    }
    covered = entry->second.end;
  }
  if (covered > data_bytes) {
    refuse(path, "it is truncated: its header describes " + std::to_string(covered) +
                     " bytes of tensors, and " + std::to_string(data_bytes) + " are there");
  }
  if (covered < data_bytes)
    refuse(path, std::to_string(data_bytes - covered) + " bytes after its last tensor belong to nothing");
}

}  // namespace

const char* safetensors_type_name(at::ScalarType type) {
  const auto* known = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [&](const TypeName& name) { return name.type == type; });
  return known == std::end(kTypes) ? nullptr : known->name;
}

SafetensorsHeader parse_safetensors_header(const std::string& path, const std::string& text,
                                           uint64_t data_bytes, const RunContext& context) {
  HeaderEvents events(path, context);
  json::sax_parse(text, &events);
  SafetensorsHeader header = events.take();
  check_coverage(path, header, data_bytes);
  return header;
}

}  // namespace ltrp
