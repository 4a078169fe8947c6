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
    invalid("A typed array could not be read.");
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
  for (int64_t size : shape) text += (text.empty() ? "" : ", ") + std::to_string(size);
  return text;
}

// The array behind `value` after all checks but that of the length.
ArrayView checked_view(const Napi::Value& value, const std::string& name, napi_typedarray_type type) {
  const ArrayView view = value.IsTypedArray() ? view_of(value) : ArrayView();
  if (!value.IsTypedArray() || view.type != type) {
    invalid(name + " must be a " + array_name(type) + "; got " + describe_value(value) + ".");
  }
  if (view.detached) invalid(name + " must have its data; its buffer is detached: it was transferred.");
  return view;
}

void check_length(const ArrayView& view, const std::string& name, const std::vector<int64_t>& shape) {
  const int64_t expected = element_count(shape);
  if (static_cast<uint64_t>(expected) == view.length) return;
  invalid(name + " must have " + std::to_string(expected) + " values" +
          (shape.size() > 1 ? " for the shape [" + join(shape) + "]" : "") + "; got " +
          std::to_string(view.length) + ".");
}

// `list`: the elements of a short array are read, which may run code of the caller's: only of arrays that
// TypeScript has copied.
std::string describe(const Napi::Value& value, bool list = false) {
  if (value.IsEmpty() || value.IsUndefined()) return "undefined";
  if (value.IsNull()) return "null";
  if (value.IsBoolean()) return value.As<Napi::Boolean>().Value() ? "true" : "false";
  if (value.IsNumber()) return value.ToString().Utf8Value();
  if (value.IsString()) {
    std::u16string text = value.As<Napi::String>().Utf16Value();
    const bool longer = text.size() > 60;
    if (longer) text.resize(60);
    return '"' + Napi::String::New(value.Env(), text).Utf8Value() + (longer ? "…\"" : "\"");
  }
  if (value.IsFunction()) return "a function";
  if (value.IsPromise()) return "a promise (is there an await missing?)";
  if (value.IsTypedArray()) {
    return std::string("a ") + array_name(view_of(value).type) + " of length " +
           std::to_string(length_of(value));
  }
  if (value.IsArray()) {
    const auto array = value.As<Napi::Array>();
    if (!list || array.Length() > 8) return "an array of length " + std::to_string(array.Length());
    std::string text;
    for (uint32_t i = 0; i < array.Length(); ++i) text += (i > 0 ? ", " : "") + describe(array.Get(i));
    return "[" + text + "]";
  }
  if (value.IsObject()) return "an object";
  return "a value of another type";
}

double number_or_nan(const Napi::Value& value) {
  return value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : std::nan("");
}

// The numbers of an array of exactly so many; fewer where there is anything else.
std::vector<double> numbers_of(const Napi::Value& value, size_t count) {
  std::vector<double> numbers;
  if (!value.IsArray() || value.As<Napi::Array>().Length() != count) return numbers;
  for (uint32_t i = 0; i < count; ++i) {
    const double number = number_or_nan(value.As<Napi::Array>().Get(i));
    if (std::isfinite(number)) numbers.push_back(number);
  }
  return numbers;
}

}  // namespace

std::string describe_value(const Napi::Value& value) { return describe(value); }

Options::Options(const Napi::Value& value, std::string name) : value_(value), name_(std::move(name)) {
  if (!value.IsUndefined() && (!value.IsObject() || value.IsFunction() || value.IsArray())) {
    invalid((name_.empty() ? "options" : name_) + " must be an object; got " + describe_value(value) + ".");
  }
}

bool Options::has(const char* key) const { return !get(key).IsUndefined(); }

Napi::Value Options::get(const char* key) const {
  if (value_.IsUndefined()) return value_;
  return value_.As<Napi::Object>().Get(key);
}

int64_t Options::integer(const char* key, std::optional<int64_t> fallback) const {
  const Napi::Value value = get(key);
  if (fallback && value.IsUndefined()) return *fallback;
  const double number = number_or_nan(value);
  if (!(number == std::floor(number) && std::abs(number) <= kMaxSafeInteger)) {
    invalid(path(key) + " must be an integer below 2^53; got " + describe_value(value) + ".");
  }
  return static_cast<int64_t>(number);
}

double Options::number(const char* key, std::optional<double> fallback) const {
  const Napi::Value value = get(key);
  if (fallback && value.IsUndefined()) return *fallback;
  if (!value.IsNumber()) invalid(path(key) + " must be a number; got " + describe_value(value) + ".");
  return number_or_nan(value);
}

bool Options::boolean(const char* key, std::optional<bool> fallback) const {
  const Napi::Value value = get(key);
  if (fallback && value.IsUndefined()) return *fallback;
  if (!value.IsBoolean()) invalid(path(key) + " must be true or false; got " + describe_value(value) + ".");
  return value.As<Napi::Boolean>().Value();
}

std::string Options::string(const char* key, std::optional<std::string> fallback) const {
  const Napi::Value value = get(key);
  if (fallback && value.IsUndefined()) return *fallback;
  return string_argument(value, path(key));
}

uint64_t Options::seed() const {
  const int64_t seed = integer("seed", 0);
  check_in(at_least(0), path("seed"), static_cast<double>(seed));
  return static_cast<uint64_t>(seed);
}

std::array<double, 3> Options::three(const char* key) const {
  const std::vector<double> numbers = numbers_of(get(key), 3);
  if (numbers.size() != 3) {
    invalid(path(key) + " must be three finite numbers: red, green, blue; got " +
            describe(get(key), /*list=*/true) + ".");
  }
  return {numbers[0], numbers[1], numbers[2]};
}

std::optional<at::Tensor> Options::floats(const char* key, const std::vector<int64_t>& shape) const {
  if (!has(key)) return {};
  return float_tensor(get(key), path(key), shape);
}

std::string string_argument(const Napi::Value& value, const std::string& name) {
  if (!value.IsString()) invalid(name + " must be a string; got " + describe_value(value) + ".");
  std::string text = value.As<Napi::String>().Utf8Value();
  // A path with a NUL in it would silently be cut there by the operating system.
  if (text.find('\0') != std::string::npos) invalid(name + " must not contain a NUL character.");
  return text;
}

std::vector<int64_t> shape_argument(const Napi::Value& value, const std::string& name, size_t rank,
                                    const char* meaning) {
  std::vector<int64_t> shape;
  for (const double size : numbers_of(value, rank)) {
    if (size >= 1 && size == std::floor(size) && size <= INT32_MAX)
      shape.push_back(static_cast<int64_t>(size));
  }
  if (shape.size() != rank) {
    invalid(name + " must be " + meaning + ", all positive integers; got " + describe(value, /*list=*/true) +
            ".");
  }
  return shape;
}

int64_t length_of(const Napi::Value& value) {
  return value.IsTypedArray() ? static_cast<int64_t>(view_of(value).length) : 0;
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
      invalid(name + " must hold finite numbers" +
              (or_minus_infinity ? ", or -Infinity for what must not be chosen" : "") + "; value " +
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
  const Options images(value, "images");
  const Napi::Value data = images.get("data"), shape = images.get("shape");
  const bool bytes = data.IsTypedArray() && view_of(data).type == napi_uint8_array;
  const char* meaning = bytes ? "[images, height, width, 3]" : "[images, 3, height, width]";
  const auto sizes = shape_argument(shape, "images.shape", 4, meaning);
  if (sizes[bytes ? 3 : 1] != 3) {
    invalid(std::string("images.shape must be ") + meaning + "; got " + describe(shape, /*list=*/true) + ".");
  }
  if (bytes) return byte_tensor(data, "images.data", element_count(sizes)).view(sizes);
  return float_tensor(data, "images.data", sizes, /*finite=*/false);
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
      invalid("images must hold finite pixels; image " + std::to_string(i) + " has NaN or infinite ones.");
    }
  }
}

namespace {

// Patch ids of an option [n * K] -> [n, K] int64; of a length that does not fit [length], to be refused.
at::Tensor ids_option(const Options& options, const char* key, int64_t images) {
  const ArrayView view = checked_view(options.get(key), options.path(key), napi_int32_array);
  const auto length = static_cast<int64_t>(view.length);
  std::vector<int32_t> ids(view.length);
  std::memcpy(ids.data(), view.data, view.length * sizeof(int32_t));
  // No operators: they would start threads here.
  at::Tensor result =
      length % images == 0 ? at::empty({images, length / images}, at::kLong) : at::empty({length}, at::kLong);
  std::copy(ids.begin(), ids.end(), result.mutable_data_ptr<int64_t>());
  return result;
}

}  // namespace

at::Tensor visible_option(const Options& options, int64_t images, int64_t patches, bool all_allowed) {
  const at::Tensor visible = ids_option(options, "visible", images);
  check_visible(visible, images, patches, all_allowed);
  return visible;
}

std::optional<at::Tensor> keep_option(const Options& options, int64_t images, int64_t patches) {
  const at::Tensor keep = ids_option(options, "keep", images);
  sort_keep(keep, images, patches);
  // Distinct and in order, so all of them means: everything.
  if (keep.size(1) == patches) return std::nullopt;
  return keep;
}

at::Tensor class_ids(const Options& options, const char* key) {
  return ids_option(options, key, 1).view({-1});
}

Masking masking_options(const Options& options, int64_t images, int64_t patches) {
  Masking masking;
  masking.seed = options.seed();
  if (options.has("visible")) {
    masking.visible = visible_option(options, images, patches, /*all_allowed=*/false);
    masking.visible_count = masking.visible->size(1);
    return masking;
  }
  masking.visible_count = visible_count(patches, options.number("maskRatio", 0.9));
  masking.noise = options.floats("noise", {images, patches});
  return masking;
}

at::Tensor Masking::draw(int64_t images, int64_t patches) const {
  if (visible) return *visible;
  return visible_from_noise(noise ? *noise : masking_noise(images, patches, seed), visible_count);
}

}  // namespace ltrp::binding
