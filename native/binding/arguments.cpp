#include "binding/arguments.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/engine/masking.h"
#include "core/error.h"

namespace ltrp::binding {
namespace {

constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;

const char* array_name(napi_typedarray_type type) {
  switch (type) {
    case napi_int8_array:
      return "Int8Array";
    case napi_uint8_array:
      return "Uint8Array";
    case napi_uint8_clamped_array:
      return "Uint8ClampedArray";
    case napi_int16_array:
      return "Int16Array";
    case napi_uint16_array:
      return "Uint16Array";
    case napi_int32_array:
      return "Int32Array";
    case napi_uint32_array:
      return "Uint32Array";
    case napi_float32_array:
      return "Float32Array";
    case napi_float64_array:
      return "Float64Array";
    case napi_bigint64_array:
      return "BigInt64Array";
    case napi_biguint64_array:
      return "BigUint64Array";
    default:
      return "typed array";
  }
}

struct ArrayView {
  napi_typedarray_type type = napi_int8_array;
  size_t length = 0;
  const void* data = nullptr;
  bool detached = false;
};

// Raw Node-API, because Napi::TypedArray asserts an ArrayBuffer and views of a SharedArrayBuffer are welcome
// here.
ArrayView view_of(const Napi::Value& value) {
  ArrayView view;
  void* data = nullptr;
  napi_value buffer = nullptr;
  if (napi_get_typedarray_info(value.Env(), value, &view.type, &view.length, &data, &buffer, nullptr) !=
      napi_ok) {
    refuse("A typed array could not be read.");
  }
  view.data = data;
  napi_is_detached_arraybuffer(value.Env(), buffer, &view.detached);
  return view;
}

int64_t element_count(const std::vector<int64_t>& shape) {
  int64_t count = 1;
  for (int64_t size : shape) {
    if (__builtin_mul_overflow(count, size, &count)) return INT64_MAX;
  }
  return count;
}

std::string join(const std::vector<int64_t>& shape) {
  std::string text;
  for (int64_t size : shape) text += (text.empty() ? "" : " x ") + std::to_string(size);
  return text;
}

// The array behind `value` after all checks but that of the length.
ArrayView checked_view(const Napi::Value& value, const std::string& name, napi_typedarray_type type) {
  if (!value.IsTypedArray()) {
    refuse(name + " must be a " + array_name(type) + ", but " + describe_value(value) + " came.");
  }
  ArrayView view = view_of(value);
  if (view.type != type) {
    refuse(name + " must be a " + array_name(type) + ", but " + describe_value(value) + " came.");
  }
  if (view.detached) {
    refuse(name + " is a " + array_name(type) +
           " whose buffer is detached (it was transferred); pass one that still has its data.");
  }
  return view;
}

void check_length(const ArrayView& view, const std::string& name, const std::vector<int64_t>& shape) {
  const int64_t expected = element_count(shape);
  if (static_cast<uint64_t>(expected) == view.length) return;
  refuse(name + " must have " + join(shape) + (shape.size() > 1 ? " = " + std::to_string(expected) : "") +
         " values, but " + std::to_string(view.length) + " came.");
}

std::string number_text(double value) {
  if (value == std::floor(value) && std::abs(value) <= static_cast<double>(kMaxSafeInteger)) {
    return std::to_string(static_cast<int64_t>(value));
  }
  char text[32];
  std::snprintf(text, sizeof text, "%g", value);
  return text;
}

std::string range_text(double minimum, double maximum) {
  if (std::isinf(maximum)) return "of at least " + number_text(minimum);
  return "from " + number_text(minimum) + " to " + number_text(maximum);
}

}  // namespace

void refuse(const std::string& sentence) { throw Error(codes::kInvalidArgument, sentence); }

std::string describe_value(const Napi::Value& value) {
  if (value.IsEmpty() || value.IsUndefined()) return "undefined";
  if (value.IsNull()) return "null";
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value() ? "true" : "false";
  if (value.IsNumber()) return value.ToString().Utf8Value();
  if (value.IsString()) {
    std::u16string text = value.As<Napi::String>().Utf16Value();
    const bool longer = text.size() > 60;
    if (longer) text.resize(60);
    return "'" + Napi::String::New(value.Env(), text).Utf8Value() + (longer ? "…'" : "'");
  }
  if (value.IsFunction()) return "a function";
  if (value.IsTypedArray()) {
    const ArrayView view = view_of(value);
    return std::string("a ") + array_name(view.type) + " of length " + std::to_string(view.length);
  }
  if (value.IsArray()) return "an array of length " + std::to_string(value.As<Napi::Array>().Length());
  if (value.IsObject()) return "an object";
  return "a value of another type";
}

Options::Options(const Napi::Value& value, std::string name) : value_(value), name_(std::move(name)) {
  if (!value.IsUndefined() && (!value.IsObject() || value.IsFunction() || value.IsArray())) {
    refuse(name_ + " must be an object, but " + describe_value(value) + " came.");
  }
}

bool Options::has(const char* key) const { return !get(key).IsUndefined(); }

Napi::Value Options::get(const char* key) const {
  if (value_.IsUndefined()) return value_;
  return value_.As<Napi::Object>().Get(key);
}

int64_t Options::integer(const char* key, int64_t minimum, int64_t maximum,
                         std::optional<int64_t> fallback) const {
  const Napi::Value value = get(key);
  if (fallback && value.IsUndefined()) return *fallback;
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(number == std::floor(number)) || number < static_cast<double>(minimum) ||
      number > static_cast<double>(maximum)) {
    refuse(path(key) + " must be an integer " +
           (maximum >= kMaxSafeInteger
                ? "of at least " + std::to_string(minimum) + " and below 2^53"
                : range_text(static_cast<double>(minimum), static_cast<double>(maximum))) +
           ", but " + describe_value(value) + " came.");
  }
  return static_cast<int64_t>(number);
}

double Options::number(const char* key, double minimum, double maximum,
                       std::optional<double> fallback) const {
  const Napi::Value value = get(key);
  if (fallback && value.IsUndefined()) return *fallback;
  const double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(std::isfinite(number) && number >= minimum && number <= maximum)) {
    refuse(path(key) + " must be a number " + range_text(minimum, maximum) + ", but " +
           describe_value(value) + " came.");
  }
  return number;
}

bool Options::boolean(const char* key, std::optional<bool> fallback) const {
  const Napi::Value value = get(key);
  if (fallback && value.IsUndefined()) return *fallback;
  if (!value.IsBoolean())
    refuse(path(key) + " must be true or false, but " + describe_value(value) + " came.");
  return value.As<Napi::Boolean>().Value();
}

std::string Options::string(const char* key, std::optional<std::string> fallback) const {
  const Napi::Value value = get(key);
  if (fallback && value.IsUndefined()) return *fallback;
  return string_argument(value, path(key).c_str());
}

uint64_t Options::seed() const { return static_cast<uint64_t>(integer("seed", 0, kMaxSafeInteger, 0)); }

std::vector<double> Options::numbers(const char* key, size_t count) const {
  const Napi::Value value = get(key);
  std::vector<double> numbers;
  if (value.IsArray() && value.As<Napi::Array>().Length() == count) {
    for (uint32_t i = 0; i < count; ++i) {
      const Napi::Value item = value.As<Napi::Array>().Get(i);
      const double number = item.IsNumber() ? item.As<Napi::Number>().DoubleValue() : std::nan("");
      if (std::isfinite(number)) numbers.push_back(number);
    }
  }
  if (numbers.size() != count) {
    refuse(path(key) + " must be an array of " + std::to_string(count) + " finite numbers, but " +
           (value.IsArray() ? "[" + value.ToString().Utf8Value() + "]" : describe_value(value)) + " came.");
  }
  return numbers;
}

std::string string_argument(const Napi::Value& value, const char* name) {
  if (!value.IsString())
    refuse(std::string(name) + " must be a string, but " + describe_value(value) + " came.");
  std::string text = value.As<Napi::String>().Utf8Value();
  // A path with a NUL in it would silently be cut there by the operating system.
  if (text.find('\0') != std::string::npos) refuse(std::string(name) + " must not contain a NUL character.");
  return text;
}

std::vector<int64_t> shape_argument(const Napi::Value& value, const std::string& name, size_t rank,
                                    const char* meaning) {
  std::vector<int64_t> shape;
  if (value.IsArray() && value.As<Napi::Array>().Length() == rank) {
    for (uint32_t i = 0; i < rank; ++i) {
      const Napi::Value item = value.As<Napi::Array>().Get(i);
      const double size = item.IsNumber() ? item.As<Napi::Number>().DoubleValue() : 0;
      if (size >= 1 && size == std::floor(size) && size <= INT32_MAX)
        shape.push_back(static_cast<int64_t>(size));
    }
  }
  if (shape.size() != rank) {
    refuse(name + " must be " + meaning + ", all positive integers, but " +
           (value.IsArray() ? "[" + value.ToString().Utf8Value() + "]" : describe_value(value)) + " came.");
  }
  return shape;
}

at::Tensor float_tensor(const Napi::Value& value, const std::string& name, const std::vector<int64_t>& shape,
                        bool finite, bool or_minus_infinity) {
  const ArrayView view = checked_view(value, name, napi_float32_array);
  check_length(view, name, shape);
  at::Tensor tensor = at::empty(shape, at::kFloat);
  float* values = tensor.mutable_data_ptr<float>();
  std::memcpy(values, view.data, view.length * sizeof(float));
  // The copy is checked, not the source: a SharedArrayBuffer may change in between.
  if (finite) {
    const float* bad = std::find_if_not(values, values + view.length, [=](float x) {
      return std::isfinite(x) || (or_minus_infinity && x == -std::numeric_limits<float>::infinity());
    });
    if (bad != values + view.length) {
      refuse(name + " must hold finite numbers" +
             (or_minus_infinity ? ", or -Infinity for what must not be chosen" : "") + ", but value " +
             std::to_string(bad - values) + " is " + (std::isnan(*bad) ? "NaN." : "infinite."));
    }
  }
  return tensor;
}

at::Tensor byte_tensor(const Napi::Value& value, const std::string& name, int64_t length) {
  ArrayView view = checked_view(value, name, napi_uint8_array);
  check_length(view, name, {length});
  at::Tensor tensor = at::empty({length}, at::kByte);
  std::memcpy(tensor.mutable_data_ptr<uint8_t>(), view.data, view.length);
  return tensor;
}

at::Tensor images_argument(const Napi::Value& value) {
  if (!value.IsObject()) {
    refuse("images must be an object { data: Float32Array, shape: [images, 3, height, width] }, but " +
           describe_value(value) + " came.");
  }
  const auto object = value.As<Napi::Object>();
  const Napi::Value data = object.Get("data");
  if (data.IsTypedArray() && data.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array) {
    const auto shape = shape_argument(object.Get("shape"), "images.shape", 4, "[images, height, width, 3]");
    if (shape[3] != 3) {
      refuse("images.shape of bytes must be [images, height, width, 3], but there are " +
             std::to_string(shape[3]) + " channels instead of 3.");
    }
    return byte_tensor(data, "images.data", element_count(shape)).view(shape);
  }
  const auto shape = shape_argument(object.Get("shape"), "images.shape", 4, "[images, 3, height, width]");
  if (shape[1] != 3) {
    refuse("images.shape must be [images, 3, height, width], but there are " + std::to_string(shape[1]) +
           " channels instead of 3.");
  }
  return float_tensor(data, "images.data", shape, /*finite=*/false);
}

namespace {

// In whole vectors on any processor: for a number with all exponent bits set, NaN or infinite, the sum
// reaches the sign's bit.
bool all_finite(const float* values, int64_t count) {
  uint32_t seen = 0;
  for (int64_t i = 0; i < count; ++i) {
    uint32_t bits = 0;
    std::memcpy(&bits, values + i, sizeof bits);
    seen |= (bits & 0x7fffffffU) + 0x00800000U;
  }
  return (seen >> 31) == 0;
}

}  // namespace

void check_finite_images(const at::Tensor& images) {
  if (images.scalar_type() == at::kByte) return;
  const int64_t values = images.numel() / images.size(0);
  for (int64_t i = 0; i < images.size(0); ++i) {
    if (!all_finite(images.const_data_ptr<float>() + i * values, values)) {
      refuse("images must hold finite pixels, but image " + std::to_string(i) +
             " has NaN or infinite values.");
    }
  }
}

at::Tensor visible_argument(const Napi::Value& value, const std::string& name, int64_t images,
                            int64_t patches, bool all_allowed) {
  const ArrayView view = checked_view(value, name, napi_int32_array);
  const auto length = static_cast<int64_t>(view.length);
  const int64_t most = all_allowed ? patches : patches - 1;
  if (length == 0 || length % images != 0 || length / images > most) {
    refuse(name + " must have the same number of patch ids for each of " + std::to_string(images) +
           " images, from 1 to " + std::to_string(most) + " of them, but " + std::to_string(length) +
           " ids came.");
  }
  const int64_t count = length / images;
  std::vector<int32_t> ids(view.length);
  std::memcpy(ids.data(), view.data, view.length * sizeof(int32_t));
  at::Tensor tensor = at::empty({images, count}, at::kLong);
  int64_t* out = tensor.mutable_data_ptr<int64_t>();
  for (int64_t i = 0; i < length; ++i) {
    const int32_t id = ids[static_cast<size_t>(i)];
    if (id < 0 || id >= patches) {
      refuse(name + " must hold patch ids from 0 to " + std::to_string(patches - 1) + ", but image " +
             std::to_string(i / count) + " has " + std::to_string(id) + ".");
    }
    if (i % count != 0 && id <= ids[static_cast<size_t>(i) - 1]) {
      refuse(name + " must list each image's patch ids in ascending order without repeats, but image " +
             std::to_string(i / count) + " has " + std::to_string(id) + " after " +
             std::to_string(ids[static_cast<size_t>(i) - 1]) + ".");
    }
    out[i] = id;
  }
  return tensor;
}

double mask_ratio_option(const Options& options, int64_t patches) {
  const Napi::Value value = options.get("maskRatio");
  const double ratio = value.IsUndefined() ? 0.9
                       : value.IsNumber()  ? value.As<Napi::Number>().DoubleValue()
                                           : std::nan("");
  if (!(ratio > 0 && ratio < 1)) {
    refuse(options.path("maskRatio") + " must be a number between 0 and 1, both excluded, but " +
           describe_value(value) + " came.");
  }
  const auto visible = static_cast<int64_t>(static_cast<double>(patches) * (1 - ratio));
  if (visible < 1 || visible >= patches) {
    refuse(options.path("maskRatio") + " must leave at least one visible and one masked patch, but " +
           number_text(ratio) + " leaves " + std::to_string(visible) + " of " + std::to_string(patches) +
           " visible.");
  }
  return ratio;
}

Masking masking_options(const Options& options, int64_t images, int64_t patches) {
  Masking masking;
  masking.seed = options.seed();
  if (options.has("visible")) {
    masking.visible = visible_argument(options.get("visible"), options.path("visible"), images, patches,
                                       /*all_allowed=*/false);
    masking.visible_count = masking.visible->size(1);
    return masking;
  }
  masking.visible_count = visible_count(patches, mask_ratio_option(options, patches));
  if (options.has("noise")) {
    masking.noise =
        float_tensor(options.get("noise"), options.path("noise"), {images, patches}, /*finite=*/true);
  }
  return masking;
}

at::Tensor Masking::draw(int64_t images, int64_t patches) const {
  if (visible) return *visible;
  return visible_from_noise(noise ? *noise : masking_noise(images, patches, seed), visible_count);
}

int64_t memory_budget_option(const Options& options) {
  const Napi::Value value = options.get("memoryBudget");
  if (value.IsUndefined()) return int64_t{512} << 20;
  const double bytes = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(bytes > 0)) {
    refuse(options.path("memoryBudget") + " must be a positive number of bytes, but " +
           describe_value(value) + " came.");
  }
  return static_cast<int64_t>(std::clamp(bytes, 1.0, 0x1p62));
}

}  // namespace ltrp::binding
