// The vision transformer that models are heads on: patches of an image to tokens, and blocks on them.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <functional>
#include <optional>

#include "core/model/transformer.h"

namespace ltrp {

// What a head makes of the tokens that the blocks and the final norm leave.
struct TokenReader {
  const char* name;  // of the numbers, in messages: "logits"
  bool first_only;   // it reads the CLS token alone
  int64_t outputs;   // numbers for each image
  // Tokens [n, T, D], CLS first, or [n, 1, D] -> [n, outputs]. An image's numbers do not depend on the
  // others. Several threads call it at a time.
  std::function<at::Tensor(const at::Tensor&)> read;
};

class Vit {
 public:
  // `weights`: those of the whole model, its head's included; copied. `dtype` float32, or float64 for tests
  // and reference results. `norm`: the name of the norm after the last block; empty where the head has its
  // own.
  Vit(const VitConfig& config, const TensorMap& weights, at::ScalarType dtype = at::kFloat,
      at::Device device = at::kCPU, const RunContext& context = {}, const std::string& norm = "norm");

  // Weights to train from, without a head's.
  static TensorMap initial_weights(const VitConfig& config, at::Generator& generator,
                                   const std::string& norm = "norm");

  const VitConfig& config() const { return config_; }
  // Canonical name -> weight; the tensors are the model's own (training updates them in place).
  const TensorMap& tensors() const { return tensors_; }
  at::ScalarType dtype() const { return dtype_; }
  // Where the weights are, and images have to be.
  at::Device device() const { return device_; }
  // Grid of a batch; Error(kInvalidArgument) when its shape does not fit the patch size.
  Grid grid_of(const at::Tensor& images) const { return checked_grid(images, config_.patch_size); }

  // What goes into the first block: CLS and the patches, embedded, positions added, [n, 1 + L, D]. images
  // [n, 3, H, W] normalised, or bytes [n, H, W, 3] that are normalised here with the model's own mean and
  // standard deviation; H and W multiples of the patch size, any grid (positions are interpolated). With
  // `visible` [n, V] int64 only those patches go in: [n, 1 + V, D].
  at::Tensor tokens(const at::Tensor& images, const std::optional<at::Tensor>& visible = {}) const;
  // Those through the blocks and the final norm. `hidden` [n] int64: the slot of each image's visible token
  // that is masked in every block's attention as key and as query ("drop = encoder").
  at::Tensor forward(const at::Tensor& images, const std::optional<at::Tensor>& visible = {},
                     const std::optional<at::Tensor>& hidden = {}) const;

  // What a head reads of them: [n, outputs].
  // `scales`: see Transformer.
  at::Tensor read(const at::Tensor& images, const std::optional<at::Tensor>& visible,
                  const TokenReader& reader, const at::Tensor& scales = {}) const;

  // For engines that take the model apart. What the patches of a grid are added to, CLS first: the CLS token
  // and every position, [1 + L, D].
  at::Tensor token_table(Grid grid) const;
  const PatchEmbedding& patch_embedding() const { return patch_embedding_; }
  const Transformer& blocks() const { return blocks_; }
  Transformer& blocks() { return blocks_; }

  // For float32 weights that are not trained any more: lays them out for fast products.
  void pack(const RunContext& context = {});
  // Lets go of the weights in their old layout: of those that pack() laid out anew, or for engines that hold
  // `all` products in a layout of their own. tensors() is incomplete then.
  void drop_unpacked(bool all = false);

  // The table [1, 1 + L, E] of that name for another grid.
  at::Tensor positions(const std::string& name, Grid grid) const;

 private:
  VitConfig config_;
  TensorMap tensors_;
  at::ScalarType dtype_;
  at::Device device_;
  PatchEmbedding patch_embedding_;
  Transformer blocks_;
};

}  // namespace ltrp
