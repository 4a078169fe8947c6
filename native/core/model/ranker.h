// The ranking model: a ViT that gives every patch a logit (docs/method.md, 3).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "core/model/vit.h"
#include "core/weights/kind.h"

namespace ltrp {

enum class RankerHead {
  kCls,    // Linear(dim -> patches) on the CLS token: the paper's head, one grid only
  kToken,  // Linear(dim -> 1) on every patch token: any grid
};
template <>
struct Names<RankerHead> {
  static constexpr Named<RankerHead> all[] = {{RankerHead::kCls, "cls"}, {RankerHead::kToken, "token"}};
};

struct RankerConfig : VitConfig {
  RankerConfig() { layer_norm_eps = 1e-5; }
  RankerHead head = RankerHead::kToken;
  // Of the head's linear map.
  int64_t logits() const { return head == RankerHead::kCls ? grid().patches() : 1; }
  bool operator==(const RankerConfig&) const = default;

  static const ModelKind kind;
  template <typename Self, typename Visit>
  static void each(Self& c, Visit&& visit) {
    VitConfig::each(c, visit);
    visit("head", c.head);
  }
  static void each_tensor(RankerConfig& c, TensorVisitor& visit);
  void recognise(Evidence& file);
};
using RankerCheckpoint = Checkpoint<RankerConfig>;

class PatchRanker {
 public:
  // Takes the weights of a checked checkpoint; see Vit.
  explicit PatchRanker(const RankerCheckpoint& checkpoint, at::ScalarType dtype = at::kFloat,
                       at::Device device = at::kCPU, const RunContext& context = {});
  // Freshly initialised for training; the same weights from a seed on every device.
  static PatchRanker initialized(const RankerConfig& config, uint64_t seed, at::Device device = at::kCPU);

  const RankerConfig& config() const { return config_; }
  const Vit& vit() const { return vit_; }
  Vit& vit() { return vit_; }
  const TensorMap& tensors() const { return vit_.tensors(); }
  at::Device device() const { return vit_.device(); }
  // For engines that hold the weights of the patch projection and of the blocks in a layout of their own:
  // lets go of these. forward() cannot be called any more, and tensors() is incomplete.
  void drop_products();
  int64_t weight_bytes() const { return total_bytes(tensors()); }

  // images as for Vit -> logits [n, L]. With `visible` [n, V] int64 ascending only those patches go in; a
  // token head then leaves the other slots at 0.
  at::Tensor forward(const at::Tensor& images, const std::optional<at::Tensor>& visible = {}) const;

  // A CLS head works on its own grid only: Error(kInvalidArgument) otherwise.
  Grid grid_of(const at::Tensor& images) const;

  // Its head on what the blocks make of `tokens` patches of such images: [n, L] of a CLS head, else a logit
  // for each patch that went in. Lives no longer than the model.
  TokenReader reader(const at::Tensor& images, int64_t tokens) const;

 private:
  RankerConfig config_;
  Vit vit_;
  LinearWeights head_;
};

}  // namespace ltrp
