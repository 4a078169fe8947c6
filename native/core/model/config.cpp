#include "core/model/config.h"

#include <cmath>
#include <sstream>

#include "core/error.h"

namespace ltrp {
namespace {

// Far above any published model; they keep products of these numbers inside 64 bits and refuse nonsense
// early.
constexpr int64_t kMaxImageSide = 1 << 16;
constexpr int64_t kMaxDim = 1 << 16;
constexpr int64_t kMaxDepth = 1024;
constexpr int64_t kMaxPatches = 1 << 20;

template <typename... Parts>
[[noreturn]] void refuse(const Parts&... parts) {
  std::ostringstream message;
  (message << ... << parts);
  throw Error(codes::kInvalidArgument, message.str());
}

void check_range(const char* field, int64_t value, int64_t maximum) {
  if (value < 1 || value > maximum) refuse(field, " must be from 1 to ", maximum, ", not ", value, ".");
}

void check_image(int64_t height, int64_t width, int64_t patch_size) {
  check_range("patch_size", patch_size, kMaxImageSide);
  check_range("image_height", height, kMaxImageSide);
  check_range("image_width", width, kMaxImageSide);
  if (height % patch_size != 0) {
    refuse("image_height must be a multiple of the patch size ", patch_size, ", not ", height, ".");
  }
  if (width % patch_size != 0) {
    refuse("image_width must be a multiple of the patch size ", patch_size, ", not ", width, ".");
  }
  check_range("the number of patches", (height / patch_size) * (width / patch_size), kMaxPatches);
}

void check_transformer(const char* name, const TransformerConfig& config) {
  const std::string prefix = std::string(name) + ".";
  check_range((prefix + "dim").c_str(), config.dim, kMaxDim);
  check_range((prefix + "depth").c_str(), config.depth, kMaxDepth);
  check_range((prefix + "heads").c_str(), config.heads, config.dim);
  check_range((prefix + "mlp_dim").c_str(), config.mlp_dim, 64 * kMaxDim);
  if (config.dim % config.heads != 0) {
    refuse(prefix, "dim must be a multiple of the number of heads ", config.heads, ", not ", config.dim, ".");
  }
  if (config.dim % 4 != 0) {
    refuse(prefix, "dim must be a multiple of 4 for the sin-cos positions, not ", config.dim, ".");
  }
}

void check_numbers(double layer_norm_eps, const std::array<double, 3>& mean,
                   const std::array<double, 3>& std) {
  if (!(layer_norm_eps > 0.0 && layer_norm_eps < 1.0)) {
    refuse("layer_norm_eps must be above 0 and below 1, not ", layer_norm_eps, ".");
  }
  for (const double value : mean) {
    if (!std::isfinite(value)) refuse("mean must consist of finite numbers.");
  }
  for (const double value : std) {
    if (!std::isfinite(value) || value <= 0.0) refuse("std must consist of finite numbers above 0.");
  }
}

}  // namespace

void validate(const MaeConfig& config) {
  check_image(config.image_height, config.image_width, config.patch_size);
  check_transformer("encoder", config.encoder);
  if (config.decoder) check_transformer("decoder", *config.decoder);
  check_numbers(config.layer_norm_eps, config.mean, config.std);
}

void validate(const RankerConfig& config) {
  check_image(config.image_height, config.image_width, config.patch_size);
  check_transformer("encoder", config.encoder);
  if (config.head != RankerHead::kCls && config.head != RankerHead::kToken)
    refuse("head must be 'cls' or 'token'.");
  check_numbers(config.layer_norm_eps, config.mean, config.std);
}

}  // namespace ltrp
