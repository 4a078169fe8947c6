// A stack of transformer blocks whose matrix products are in low precision: what enters a product is rounded,
// everything else is float32.
#pragma once

#include <vector>

#include "core/engine/low_precision_block.h"

namespace ltrp {

class LowPrecisionStack {
 public:
  // Keeps `stack`'s biases and norms; its weights may be dropped afterwards.
  LowPrecisionStack(const Transformer& stack, Precision precision, const RunContext& context = {});

  // x [n, T, E] float32, overwritten -> what the final norm yields, [n, T, E]; with `first_only` for the
  // first token of each only, [n, 1, E].
  at::Tensor forward(const at::Tensor& x, bool first_only = false) const;

  int64_t packed_bytes() const;

  // Its steps one by one, on tokens [n, T, E] float32, for who looks at what is between them: q, k and v side
  // by side with their biases, [n, T, 3E], and the sums after the attention and after the MLP.
  at::Tensor project_qkv(size_t block, const at::Tensor& tokens) const;
  at::Tensor add_attended(size_t block, const at::Tensor& tokens, const at::Tensor& attended) const;
  at::Tensor add_mlp(size_t block, const at::Tensor& tokens) const;
  // A block whose weights can be differentiated through: [out, in], as the products have rounded them.
  TransformerBlock unpacked(size_t block) const;
  const LayerNormWeights& final_norm_weights() const { return norm_; }

  // The same in pieces, for several threads that take some rows each through a block (row_parallel_pass.h).
  // Rows on their way: what the block before leaves to be added comes along with its bias.
  struct Rows {
    at::Tensor x;  // [R, E] float32, overwritten
    ProductRows update = {};
    at::Tensor update_bias = {};
  };
  size_t depth() const { return blocks_.size(); }
  // Room for the q, k and v of `rows` rows, as project_qkv() yields them on a CPU.
  ProductRows product_rows(int64_t rows) const;
  void project_qkv(size_t block, Rows& rows, const ProductRows& into) const;  // [R, 3E]
  // qkv of whole images of `tokens` rows -> concatenated heads, see product_attention().
  at::Tensor attend(size_t block, const ProductRows& qkv, int64_t tokens, const at::Tensor& queries) const;
  void finish(size_t block, const at::Tensor& attended, Rows& rows) const;
  at::Tensor final_norm(Rows& rows) const;  // [R, E]; a stack without one only adds what is to be added

 private:
  struct Block {
    LowPrecisionBlock products;
    LayerNormWeights norm1, norm2;
    at::Tensor qkv_bias, proj_bias, fc1_bias, fc2_bias;
    int64_t heads;
  };
  Precision precision_;
  std::vector<Block> blocks_;
  LayerNormWeights norm_;
};

}  // namespace ltrp
