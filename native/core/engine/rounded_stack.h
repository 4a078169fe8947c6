// A stack of transformer blocks whose matrix products are in low precision: what enters a product is rounded,
// everything else is float32.
#pragma once

#include <vector>

#include "core/engine/rounded_block.h"

namespace ltrp {

class RoundedStack {
 public:
  // Keeps `stack`'s biases and norms; its weights may be dropped afterwards.
  RoundedStack(const Transformer& stack, Precision precision);

  // x [n, T, E] float32, overwritten -> what the final norm yields, [n, T, E]; with `first_only` for the
  // first token of each only, [n, 1, E].
  at::Tensor forward(const at::Tensor& x, bool first_only = false) const;

  int64_t packed_bytes() const;

 private:
  struct Block {
    RoundedBlock products;
    LayerNormWeights norm1, norm2;
    at::Tensor qkv_bias, proj_bias, fc1_bias, fc2_bias;
    int64_t heads;
  };
  Precision precision_;
  std::vector<Block> blocks_;
  LayerNormWeights norm_;
};

}  // namespace ltrp
