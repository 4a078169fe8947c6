// From JavaScript values to checked C++ values. Every refusal is an Error(kInvalidArgument) whose sentence
// says which argument, what was expected and what came. Typed arrays are copied here, so a caller may detach
// them afterwards.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "binding/node_api.h"

namespace ltrp::binding {

// A short noun phrase for error messages: `"abc"`, `1.5`, `a Float32Array of length 12`.
std::string describe_value(const Napi::Value& value);

[[noreturn]] void refuse(const std::string& sentence);

// A named object whose fields are read one by one. `undefined` fields are absent; an undefined object has no
// fields.
class Options {
 public:
  Options(const Napi::Value& value, std::string name);

  bool has(const char* key) const;
  Napi::Value get(const char* key) const;
  std::string path(const char* key) const { return name_ + "." + key; }

  // Inclusive bounds. Without a fallback the field is required.
  int64_t integer(const char* key, int64_t minimum, int64_t maximum,
                  std::optional<int64_t> fallback = {}) const;
  double number(const char* key, double minimum, double maximum, std::optional<double> fallback = {}) const;
  bool boolean(const char* key, std::optional<bool> fallback = {}) const;
  std::string string(const char* key, std::optional<std::string> fallback = {}) const;
  // An integer in [0, 2^53), default 0.
  uint64_t seed() const;
  // Exactly `count` finite numbers.
  std::vector<double> numbers(const char* key, size_t count) const;

  template <typename T>
  T one_of(const char* key, std::initializer_list<std::pair<const char*, T>> choices,
           std::optional<T> fallback = {}) const {
    if (fallback && !has(key)) return *fallback;
    const std::string word = has(key) && get(key).IsString() ? string(key) : std::string();
    std::string allowed;
    for (const auto& [name, value] : choices) {
      if (word == name) return value;
      allowed += std::string(allowed.empty() ? "'" : ", '") + name + "'";
    }
    refuse(path(key) + " must be one of " + allowed + ", but " + describe_value(get(key)) + " came.");
  }

 private:
  Napi::Value value_;
  std::string name_;
};

std::string string_argument(const Napi::Value& value, const char* name);

// An array of `rank` positive integers; `meaning` names them: "[lists, items]".
std::vector<int64_t> shape_argument(const Napi::Value& value, const std::string& name, size_t rank,
                                    const char* meaning);

// A Float32Array with exactly as many values as `shape`. `finite`: NaN and infinities are refused here,
// `or_minus_infinity` but that one.
at::Tensor float_tensor(const Napi::Value& value, const std::string& name, const std::vector<int64_t>& shape,
                        bool finite, bool or_minus_infinity = false);

// Copies the bytes of a Uint8Array of exactly `length` bytes: [length] uint8.
at::Tensor byte_tensor(const Napi::Value& value, const std::string& name, int64_t length);

// { data: Float32Array, shape: [n, 3, H, W] } -> [n, 3, H, W] float32, { data: Uint8Array, shape: [n, H, W,
// 3] }
// -> [n, H, W, 3] uint8. Finiteness: check_finite_images.
at::Tensor images_argument(const Napi::Value& value);

// Compute thread: refuses NaN and infinite pixels, naming the first such image.
void check_finite_images(const at::Tensor& images);

// Int32Array [n * V] of patch ids, per image ascending and distinct, in [0, patches) -> [n, V] int64.
// V < patches unless `all_allowed`.
at::Tensor visible_argument(const Napi::Value& value, const std::string& name, int64_t images,
                            int64_t patches, bool all_allowed);

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

// maskRatio strictly between 0 and 1, default 0.9, leaving at least one visible and one masked patch.
double mask_ratio_option(const Options& options, int64_t patches);

// memoryBudget in bytes, default 512 MiB.
int64_t memory_budget_option(const Options& options);

}  // namespace ltrp::binding
