// Geometry of the models. A checkpoint's header carries exactly these values.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace ltrp {

// Number of patches in each direction.
struct Grid {
  int64_t rows = 0;
  int64_t columns = 0;
  int64_t patches() const { return rows * columns; }
  bool operator==(const Grid&) const = default;
};

// A stack of pre-norm transformer blocks.
struct TransformerConfig {
  int64_t dim = 0;
  int64_t depth = 0;
  int64_t heads = 0;
  int64_t mlp_dim = 0;  // hidden width of the MLP, 4 * dim in all published models
  bool operator==(const TransformerConfig&) const = default;
};

struct MaeConfig {
  int64_t image_height = 224;  // pixels, a multiple of patch_size; the size the positions were made for
  int64_t image_width = 224;
  int64_t patch_size = 16;  // pixels
  TransformerConfig encoder;
  std::optional<TransformerConfig> decoder;  // absent in encoder-only checkpoints (mae_pretrain_*.pth)
  double layer_norm_eps = 1e-6;
  bool normalized_target = false;                   // trained on per-patch normalised pixels
  std::array<double, 3> mean{0.485, 0.456, 0.406};  // of input pixels in [0, 1], RGB
  std::array<double, 3> std{0.229, 0.224, 0.225};

  Grid grid() const { return {image_height / patch_size, image_width / patch_size}; }
  int64_t patch_values() const { return patch_size * patch_size * 3; }
  bool operator==(const MaeConfig&) const = default;
};

enum class RankerHead {
  kCls,    // Linear(dim -> patches) on the CLS token: the paper's head, one grid only
  kToken,  // Linear(dim -> 1) on every patch token: any grid
};

struct RankerConfig {
  int64_t image_height = 224;
  int64_t image_width = 224;
  int64_t patch_size = 16;
  TransformerConfig encoder;
  RankerHead head = RankerHead::kToken;
  double layer_norm_eps = 1e-5;
  std::array<double, 3> mean{0.485, 0.456, 0.406};
  std::array<double, 3> std{0.229, 0.224, 0.225};

  Grid grid() const { return {image_height / patch_size, image_width / patch_size}; }
  bool operator==(const RankerConfig&) const = default;
};

// Throws Error(kInvalidArgument) naming the field when a value is out of range or does not fit the others.
void validate(const MaeConfig& config);
void validate(const RankerConfig& config);

}  // namespace ltrp
