#include "core/model/ranker.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/random.h"

namespace ltrp {

const ModelKind RankerConfig::kind{
    "ranker", "a ranker", {Content::kRanker, Content::kHead}, /*hugging_face=*/false};

void RankerConfig::each_tensor(RankerConfig& c, TensorVisitor& visit) {
  VitConfig::each_tensor(c, visit);
  visit.layer("norm", {&c.encoder.dim});
  visit.layer("head", {c.head == RankerHead::kCls ? Extent(&visit.patches) : Extent(1), &c.encoder.dim});
}

void RankerConfig::recognise(Evidence& file) {
  head = file.rows("head") == 1 && file.patches() != 1 ? RankerHead::kToken : RankerHead::kCls;
}

PatchRanker::PatchRanker(const RankerCheckpoint& checkpoint, at::ScalarType dtype, at::Device device,
                         const RunContext& context)
    : config_(validate(checkpoint.config)),
      vit_(config_, checkpoint.tensors, dtype, device, context),
      head_(linear_weights(tensors(), "head")) {}

PatchRanker PatchRanker::initialized(const RankerConfig& config, uint64_t seed, at::Device device) {
  validate(config);
  at::Generator generator = generator_for(seed, 0);
  TensorMap weights = Vit::initial_weights(config, generator);
  initialize_linear(weights, "head", config.encoder.dim, config.logits(), generator);
  return PatchRanker({config, std::move(weights), "ltrp"}, at::kFloat, device);
}

void PatchRanker::drop_products() {
  // Read for as many rows as a thread has, whose number must not show in a row's last digits.
  head_.pack();
  vit_.drop_unpacked(/*all=*/true);
}

Grid PatchRanker::grid_of(const at::Tensor& images) const {
  const Grid grid = vit_.grid_of(images);
  if (config_.head == RankerHead::kCls && grid != config_.grid()) {
    throw Error(codes::kInvalidArgument,
                "This ranker's CLS head knows only its own grid of " + std::to_string(config_.grid().rows) +
                    " x " + std::to_string(config_.grid().columns) + " patches, not " +
                    std::to_string(grid.rows) + " x " + std::to_string(grid.columns) +
                    "; resize the images to " + std::to_string(config_.image_height) + " x " +
                    std::to_string(config_.image_width) + " pixels or use a ranker with a token head.");
  }
  return grid;
}

TokenReader PatchRanker::reader(const at::Tensor& images, int64_t tokens) const {
  if (config_.head == RankerHead::kCls) {
    return {"logits", true, grid_of(images).patches(),
            [this](const at::Tensor& x) { return head_(x.select(1, 0)); }};
  }
  return {"logits", false, tokens, [this](const at::Tensor& x) { return head_(x.slice(1, 1)).squeeze(-1); }};
}

at::Tensor PatchRanker::forward(const at::Tensor& images, const std::optional<at::Tensor>& visible) const {
  const int64_t patches = grid_of(images).patches();
  const at::Tensor logits = vit_.read(images, visible, reader(images, visible ? visible->size(1) : patches));
  if (!visible || config_.head == RankerHead::kCls) return logits;
  return at::zeros({logits.size(0), patches}, logits.options()).scatter(1, *visible, logits);
}

}  // namespace ltrp
