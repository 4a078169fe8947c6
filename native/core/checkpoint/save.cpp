// Writing our own layout (save_checkpoint).
#include <ATen/ops/abs.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/max.h>
#include <ATen/ops/sub.h>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/names.h"
#include "core/checkpoint/safetensors.h"
#include "core/checkpoint/text.h"
#include "core/error.h"
#include "core/weights/positions.h"

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

}  // namespace

void save_model(const std::string& path, AnyConfig& config, const TensorMap& tensors, StoredType type,
                IfThere if_there, const RunContext& context) {
  config.validate();
  nlohmann::json description = config.to_json();
  std::map<std::string, at::Tensor> stored;
  const auto expected = expected_tensors(config, canonical_names());
  for (const ExpectedTensor& wanted : expected) {
    context.check();
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
    if (wanted.positions) {
      const bool fixed = is_fixed_table(tensor, config.vit().grid(), type);
      description[positions_key(wanted.canonical)] = fixed ? "sincos2d" : "stored";
      if (fixed) continue;
    }
    const at::Tensor converted = wanted.positions ? tensor : tensor.to(scalar_type(type));
    if (!at::isfinite(converted).all().item<bool>()) {
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
  write_safetensors(path, stored,
                    {{"format", "ltrp-1"}, {"kind", config.kind().word}, {"config", description.dump()}},
                    if_there, context);
}

}  // namespace ltrp
