// What every model's configuration has: the geometry of a vision transformer. Each head adds its own fields
// in core/model.
//
// A configuration lists its fields once, in each(), by the names that files give them, and its tensors once,
// in each_tensor() (tensors.h). Files, their headers, JavaScript and the guesses from a foreign file's shapes
// go by these lists.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <type_traits>

#include "core/names.h"
#include "core/weights/tensors.h"

namespace ltrp {

// Number of patches in each direction.
struct Grid {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t patches() const { return rows * columns; }
  bool operator==(const Grid&) const = default;
};

// The vision transformer that every model is built on.
struct VitConfig {
  int64_t image_height = 224;  // pixels, a multiple of patch_size; the size the positions were made for
  int64_t image_width = 224;
  int64_t patch_size = 16;  // pixels
  TransformerConfig encoder;
  double layer_norm_eps = 1e-6;
  std::array<double, 3> mean{0.485, 0.456, 0.406};  // of input pixels in [0, 1], RGB
  std::array<double, 3> std{0.229, 0.224, 0.225};

  Grid grid() const { return {image_height / patch_size, image_width / patch_size}; }
  int64_t patch_values() const { return patch_size * patch_size * 3; }

  template <typename Self, typename Visit>
  static void each(Self& c, Visit&& visit) {
    visit("image_height", c.image_height);
    visit("image_width", c.image_width);
    visit("patch_size", c.patch_size);
    visit("encoder", c.encoder);
    visit("layer_norm_eps", c.layer_norm_eps);
    visit("mean", c.mean);
    visit("std", c.std);
  }
  // All but the norm after the last block, which is the head's.
  static void each_tensor(VitConfig& c, TensorVisitor& visit);
  bool operator==(const VitConfig&) const = default;
};

// Error(kInvalidArgument) naming the field when a value is out of range or does not fit the others.
void check_vit(const VitConfig& config);
void check_transformer(const std::string& name, const TransformerConfig& config);

// The same for a head's configuration, which it returns. What only the head knows is in its check().
template <typename Config>
const Config& validate(const Config& config) {
  check_vit(config);
  Config::each(config, [](const char* name, const auto& field) {
    using Field = std::decay_t<decltype(field)>;
    if constexpr (std::is_same_v<Field, std::optional<TransformerConfig>>) {
      if (field) check_transformer(name, *field);
    }
  });
  if constexpr (requires { config.check(); }) config.check();
  return config;
}

}  // namespace ltrp
