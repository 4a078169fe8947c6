// What the config.json and preprocessor_config.json beside a checkpoint say, in the keys of Hugging Face,
// timm and the authors' code.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/checkpoint/state_dict.h"

namespace ltrp {

// Of a stack of blocks.
struct TransformerSettings {
  std::optional<int64_t> dim, depth, heads, mlp_dim;
};

struct Settings {
  std::optional<int64_t> image_height, image_width, patch_size;
  TransformerSettings encoder, decoder;
  nlohmann::json eps;                                       // a number, or one for each kind of model
  std::optional<std::array<double, 3>> mean, std;           // of pixels in [0, 1]
  std::optional<std::pair<int64_t, int64_t>> picture_size;  // height and width that a preprocessor makes
  std::vector<std::string> notes;                           // what is said and not used

  // For a model of that kind (ModelKind::word).
  std::optional<double> layer_norm_eps(const char* kind) const;
};

// Error(kCheckpointContent) for a setting whose value cannot be.
Settings read_settings(const StoredCheckpoint& checkpoint);

// Error(kUnsupported), naming the setting, for an architecture that no model here has.
void check_supported(const StoredCheckpoint& checkpoint);

}  // namespace ltrp
