#include "core/model/ranker.h"

#include <ATen/ATen.h>

#include "core/error.h"
#include "core/model/positions.h"
#include "core/random.h"
#include "kernels/pixels.h"

namespace ltrp {

PatchRanker::PatchRanker(const RankerCheckpoint& checkpoint, at::ScalarType dtype, at::Device device)
    : config_(checkpoint.config),
      tensors_(converted(checkpoint.tensors, dtype, device)),
      dtype_(dtype),
      device_(device) {
  validate(config_);
  bind();
}

PatchRanker PatchRanker::initialized(const RankerConfig& config, uint64_t seed, at::Device device) {
  validate(config);
  at::Generator generator = generator_for(seed, 0);
  PatchRanker model;
  model.config_ = config;
  TensorMap& tensors = model.tensors_;
  initialize_patch_embedding(tensors, "patch_embed.proj", config.patch_size, config.encoder.dim, generator);
  initialize_token(tensors, "cls_token", config.encoder.dim, generator);
  tensors["pos_embed"] = sincos_positions(config.grid(), config.encoder.dim);
  initialize_blocks(tensors, config.encoder, "blocks", generator);
  initialize_layer_norm(tensors, "norm", config.encoder.dim);
  initialize_linear(tensors, "head", config.encoder.dim,
                    config.head == RankerHead::kCls ? config.grid().patches() : 1, generator);
  model.device_ = device;
  if (!device.is_cpu()) tensors = converted(tensors, at::kFloat, device);
  model.bind();
  return model;
}

void PatchRanker::bind() {
  const LinearWeights patches = linear_weights(tensors_, "patch_embed.proj");
  patch_embedding_ = {patches.weight, patches.bias, {}};
  encoder_ = transformer_weights(tensors_, config_.encoder, "blocks", "norm", config_.layer_norm_eps);
  head_ = linear_weights(tensors_, "head");
}

void PatchRanker::drop_products() {
  patch_embedding_.weight.reset();
  for (TransformerBlock& block : encoder_.blocks) {
    for (LinearWeights* linear : {&block.qkv, &block.proj, &block.fc1, &block.fc2}) linear->weight.reset();
  }
  // Read for as many rows as a thread has, whose number must not show in a row's last digits.
  head_.pack();
  drop_unused_weights(tensors_);
}

Grid PatchRanker::grid_of(const at::Tensor& images) const {
  const Grid grid = checked_grid(images, config_.patch_size);
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

at::Tensor PatchRanker::token_table(Grid grid) const {
  at::Tensor positions = tensors_.at("pos_embed");
  if (grid != config_.grid()) positions = resize_positions(positions, config_.grid(), grid);
  const at::Tensor cls = tensors_.at("cls_token") + positions.slice(1, 0, 1);
  return at::cat({cls, positions.slice(1, 1)}, 1).squeeze(0);
}

at::Tensor PatchRanker::read_out(const at::Tensor& normed) const {
  return config_.head == RankerHead::kCls ? head_(normed.select(1, 0))
                                          : head_(normed.slice(1, 1)).squeeze(-1);
}

at::Tensor PatchRanker::forward(const at::Tensor& images, const std::optional<at::Tensor>& visible) const {
  const at::Tensor table = token_table(grid_of(images));
  const int64_t n = images.size(0), count = table.size(0) - 1;
  at::Tensor patches = patchify_channels_first(images.to(dtype_), config_.patch_size);
  at::Tensor positions = table.slice(0, 1).unsqueeze(0);
  if (visible) {
    patches = gather_tokens(patches, *visible);
    positions = gather_tokens(positions.expand({n, -1, -1}), *visible);
  }
  const at::Tensor cls = table.slice(0, 0, 1).unsqueeze(0).expand({n, 1, -1});
  const at::Tensor tokens = at::cat({cls, patch_embedding_(patches) + positions}, 1);
  if (config_.head == RankerHead::kCls) return read_out(encoder_.forward_first(tokens));

  const at::Tensor logits = read_out(encoder_.forward(tokens));
  if (!visible) return logits;
  return at::zeros({n, count}, logits.options()).scatter(1, *visible, logits);
}

}  // namespace ltrp
