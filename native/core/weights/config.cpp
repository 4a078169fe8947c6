#include "core/weights/config.h"

#include <string>

#include "core/check.h"

namespace ltrp {
namespace {

// Far above any published model; they keep products of these numbers inside 64 bits and refuse nonsense
// early.
constexpr int64_t kMaxImageSide = 1 << 16;
constexpr int64_t kMaxDim = 1 << 16;
constexpr int64_t kMaxDepth = 1024;
constexpr int64_t kMaxPatches = 1 << 20;

void check_range(const std::string& field, int64_t value, int64_t maximum) {
  check_in(closed(1, static_cast<double>(maximum)), field, static_cast<double>(value));
}

void check_image(int64_t height, int64_t width, int64_t patch_size) {
  check_range("patchSize", patch_size, kMaxImageSide);
  check_range("imageHeight", height, kMaxImageSide);
  check_range("imageWidth", width, kMaxImageSide);
  if (height % patch_size != 0) {
    invalid("imageHeight must be a multiple of the patch size " + std::to_string(patch_size) + "; got " +
            std::to_string(height) + ".");
  }
  if (width % patch_size != 0) {
    invalid("imageWidth must be a multiple of the patch size " + std::to_string(patch_size) + "; got " +
            std::to_string(width) + ".");
  }
  check_range("the number of patches", (height / patch_size) * (width / patch_size), kMaxPatches);
}

}  // namespace

void check_transformer(const std::string& name, const TransformerConfig& config) {
  const std::string prefix = name + ".";
  check_range(prefix + "dim", config.dim, kMaxDim);
  check_range(prefix + "depth", config.depth, kMaxDepth);
  check_range(prefix + "heads", config.heads, config.dim);
  check_range(prefix + "mlpDim", config.mlp_dim, 64 * kMaxDim);
  if (config.dim % config.heads != 0) {
    invalid(prefix + "dim must be a multiple of the number of heads " + std::to_string(config.heads) +
            "; got " + std::to_string(config.dim) + ".");
  }
  if (config.dim % 4 != 0) {
    invalid(prefix + "dim must be a multiple of 4 for the sin-cos positions; got " +
            std::to_string(config.dim) + ".");
  }
}

void check_vit(const VitConfig& config) {
  check_image(config.image_height, config.image_width, config.patch_size);
  check_transformer("encoder", config.encoder);
  check_in(open(0, 1), "layerNormEps", config.layer_norm_eps);
  for (const double value : config.mean) check_in({}, "mean", value);
  for (const double value : config.std) check_in(above(0), "std", value);
}

void VitConfig::each_tensor(VitConfig& c, TensorVisitor& visit) {
  int64_t* dim = &c.encoder.dim;
  visit.tensor("cls_token", {1, 1, dim});
  visit.positions("pos_embed", dim);
  visit.layer("patch_embed.proj", {dim, 3, &c.patch_size, &c.patch_size});
  visit.transformer("blocks.", c.encoder);
}

}  // namespace ltrp
