// From JavaScript values to C++ values. A wrong type is an Error(kInvalidArgument) that names the argument,
// the type it must have and the value that came. The core checks the meaning. Typed arrays are copied here,
// so a caller may detach them afterwards.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "binding/node_api.h"
#include "core/check.h"
#include "core/names.h"

namespace ltrp::binding {

// A short noun phrase for error messages: `"abc"`, `1.5`, `a Float32Array of length 12`.
std::string describe_value(const Napi::Value& value);

// A named object whose fields are read one by one. `undefined` fields are absent; an undefined object has no
// fields. Fields of an unnamed one go by their own names.
class Options {
 public:
  explicit Options(const Napi::Value& value, std::string name = "");

  bool has(const char* key) const;
  Napi::Value get(const char* key) const;
  std::string path(const char* key) const { return name_.empty() ? key : name_ + "." + key; }

  // Without a fallback the field is required. An integer has at most 53 bits.
  int64_t integer(const char* key, std::optional<int64_t> fallback = {}) const;
  double number(const char* key, std::optional<double> fallback = {}) const;
  bool boolean(const char* key, std::optional<bool> fallback = {}) const;
  std::string string(const char* key, std::optional<std::string> fallback = {}) const;
  // An integer in [0, 2^53), default 0.
  uint64_t seed() const;
  // Of red, green and blue: finite.
  std::array<double, 3> three(const char* key) const;
  // A word of the enumeration's names.
  template <typename Value>
  Value one_of(const char* key, std::optional<Value> fallback = {}) const {
    if (fallback && !has(key)) return *fallback;
    const Napi::Value given = get(key);
    const std::string word = given.IsString() ? given.As<Napi::String>().Utf8Value() : std::string();
    return value_of<Value>(path(key), word, describe_value(given));
  }
  // A Float32Array of exactly so many finite values; none without such a field.
  std::optional<at::Tensor> floats(const char* key, const std::vector<int64_t>& shape) const;

 private:
  Napi::Value value_;
  std::string name_;
};

std::string string_argument(const Napi::Value& value, const std::string& name);

// An array of `rank` positive integers; `meaning` names them: "[lists, items]".
std::vector<int64_t> shape_argument(const Napi::Value& value, const std::string& name, size_t rank,
                                    const char* meaning);

// A Float32Array with exactly as many values as `shape`. `finite`: NaN and infinities are refused here,
// `or_minus_infinity` but that one.
at::Tensor float_tensor(const Napi::Value& value, const std::string& name, const std::vector<int64_t>& shape,
                        bool finite = true, bool or_minus_infinity = false);

// Copies the bytes of a Uint8Array of exactly `length` bytes: [length] uint8.
at::Tensor byte_tensor(const Napi::Value& value, const std::string& name, int64_t length);

// Number of values of a typed array; 0 for anything else.
int64_t length_of(const Napi::Value& value);

// { data: Float32Array, shape: [n, 3, H, W] } -> [n, 3, H, W] float32, { data: Uint8Array, shape: [n, H, W,
// 3] } -> [n, H, W, 3] uint8. Finiteness: check_finite_images.
at::Tensor images_argument(const Napi::Value& value);

// Compute thread: refuses NaN and infinite pixels, naming the first such image.
void check_finite_images(const at::Tensor& images);

// The option `visible`: Int32Array [n * V] of patch ids -> [n, V] int64, as check_visible() wants them.
at::Tensor visible_option(const Options& options, int64_t images, int64_t patches, bool all_allowed);

// The option `keep`: Int32Array [n * K] of patch ids in any order -> [n, K] int64, ascending; nothing where
// all patches are kept.
std::optional<at::Tensor> keep_option(const Options& options, int64_t images, int64_t patches);

// An option that is an Int32Array of ids of classes -> [length] int64.
at::Tensor class_ids(const Options& options, const char* key);

// NativeMasking of lib/native/binding.ts for n images of L patches.
struct Masking {
  std::optional<at::Tensor> visible;  // [n, V] int64
  std::optional<at::Tensor> noise;    // [n, L]
  int64_t visible_count = 0;          // V
  uint64_t seed = 0;

  // Ids of the visible patches, [n, V] int64.
  at::Tensor draw(int64_t images, int64_t patches) const;
};
Masking masking_options(const Options& options, int64_t images, int64_t patches);

}  // namespace ltrp::binding
