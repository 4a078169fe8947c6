// Writing our own layout (the save_* functions of checkpoint.h).
#include <ATen/ops/abs.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/max.h>
#include <ATen/ops/sub.h>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/config_json.h"
#include "core/checkpoint/names.h"
#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/text.h"
#include "core/error.h"
#include "core/model/positions.h"

namespace ltrp {
namespace {

constexpr double kTableTolerance = 1e-6;

at::ScalarType scalar_type(StoredType type) {
  switch (type) {
    case StoredType::kFloat16:
      return at::kHalf;
    case StoredType::kBFloat16:
      return at::kBFloat16;
    case StoredType::kFloat32:
      break;
  }
  return at::kFloat;
}

bool is_fixed_table(const at::Tensor& table, Grid grid, StoredType type) {
  if (table.size(2) % 4 != 0) return false;
  const at::Tensor fixed = sincos_positions(grid, table.size(2));
  if (type == StoredType::kFloat32) return at::equal(table, fixed);  // a float32 round trip is exact
  return at::max(at::abs(at::sub(table, fixed))).item<float>() <= kTableTolerance;
}

bool is_table(const std::string& name) { return name == "pos_embed" || name == "decoder_pos_embed"; }

template <typename Config>
void save(const std::string& path, const char* kind, const Config& config, const TensorMap& tensors,
          StoredType type) {
  validate(config);
  nlohmann::json description = config_to_json(config);
  std::map<std::string, at::Tensor> stored;
  const auto expected = expected_tensors(config, canonical_names());
  for (const ExpectedTensor& wanted : expected) {
    const auto found = tensors.find(wanted.canonical);
    if (found == tensors.end() || !found->second.defined()) {
      throw Error(codes::kInvalidArgument, "The model to save lacks the tensor '" + wanted.canonical + "'.");
    }
    if (found->second.sizes().vec() != wanted.shape) {
      throw Error(codes::kInvalidArgument,
                  "The tensor '" + wanted.canonical + "' of the model to save has the shape " +
                      shape_text(found->second.sizes()) + " instead of " + shape_text(wanted.shape) + ".");
    }
    const at::Tensor tensor = found->second.detach().cpu().to(at::kFloat).contiguous();
    if (is_table(wanted.canonical)) {
      const bool fixed = is_fixed_table(tensor, config.grid(), type);
      description[wanted.canonical == "pos_embed" ? "positions" : "decoder_positions"] =
          fixed ? "sincos2d" : "stored";
      if (fixed) continue;
    }
    const at::Tensor converted = is_table(wanted.canonical) ? tensor : tensor.to(scalar_type(type));
    if (!at::isfinite(converted).all().template item<bool>()) {
      throw Error(codes::kInvalidArgument,
                  "The tensor '" + wanted.canonical +
                      "' has values that are NaN, infinite or beyond the range of the stored type.");
    }
    stored.emplace(wanted.canonical, converted);
  }
  if (tensors.size() != expected.size()) {
    throw Error(codes::kInvalidArgument, "The model to save has " + std::to_string(tensors.size()) +
                                             " tensors instead of " + std::to_string(expected.size()) + ".");
  }
  write_safetensors(path, stored, {{"format", "ltrp-1"}, {"kind", kind}, {"config", description.dump()}});
}

}  // namespace

void save_mae_checkpoint(const std::string& path, const MaeConfig& config, const TensorMap& tensors,
                         StoredType type) {
  save(path, "mae", config, tensors, type);
}

void save_ranker_checkpoint(const std::string& path, const RankerConfig& config, const TensorMap& tensors,
                            StoredType type) {
  save(path, "ranker", config, tensors, type);
}

}  // namespace ltrp
