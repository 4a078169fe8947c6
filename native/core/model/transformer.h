// Building blocks of the models: patch projection, pre-norm transformer blocks, initial weights.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/run_context.h"
#include "core/weights/config.h"
#include "core/weights/weights.h"

namespace ltrp {

struct LinearWeights {
  at::Tensor weight;  // [out, in]
  at::Tensor bias;    // [out]
  at::Tensor packed;  // the weight in the layout of the products, once pack() was called
  at::Tensor operator()(const at::Tensor& x) const;
  // Float32 weights that will not change any more: products become several times faster, gradients
  // impossible.
  void pack();
};

struct LayerNormWeights {
  at::Tensor weight;  // [dim]; undefined: the identity
  at::Tensor bias;
  double eps = 1e-6;
  bool packed = false;  // float32 weights that will not change any more, see LinearWeights::pack()
  at::Tensor operator()(const at::Tensor& x) const;
};

// Patches to tokens: a linear map over (channel, row, column) values, the p x p convolution of the
// checkpoints.
struct PatchEmbedding {
  at::Tensor weight;  // [dim, 3, p, p]
  at::Tensor bias;    // [dim]
  at::Tensor packed;  // as in LinearWeights
  // patches [n, T, 3 * p * p] -> [n, T, dim]
  at::Tensor operator()(const at::Tensor& patches) const;
  void pack();
};

// x + Proj(Attention(LN1(x))), then x + FC2(GELU(FC1(LN2(x)))); exact (erf) GELU.
struct TransformerBlock {
  LayerNormWeights norm1, norm2;
  LinearWeights qkv, proj, fc1, fc2;
  int64_t heads = 1;

  // tokens [n, T, dim] -> the same. `hidden` [n] int64: a token of each that is masked in attention as key
  // and as query; the attention output of a hidden query is zero.
  // `scales`: see Transformer; those of this block, [2, n].
  at::Tensor forward(const at::Tensor& tokens, const std::optional<at::Tensor>& hidden = {},
                     const at::Tensor& scales = {}) const;

  // The same in pieces, for engines that share work between variants.
  at::Tensor project_qkv(const at::Tensor& tokens) const;  // -> [n, T, 3 * dim]: q, k and v side by side
  // qkv [n, T, 3 * dim] -> concatenated heads [n, T, dim], or [n, Q, dim] for the tokens `query_ids` [n, Q]
  // int64.
  at::Tensor attend(const at::Tensor& qkv, const std::optional<at::Tensor>& query_ids = {},
                    const std::optional<at::Tensor>& hidden = {}) const;
  // residual [n, Tq, dim] and the heads' output for the same tokens -> the block's output
  at::Tensor finish(const at::Tensor& residual, const at::Tensor& attended,
                    const at::Tensor& scales = {}) const;
  // Its halves: residual + Proj(attended), and tokens + FC2(GELU(FC1(LN2(tokens)))); `scale` [n] of what is
  // added to each image, undefined for 1.
  at::Tensor add_attended(const at::Tensor& residual, const at::Tensor& attended,
                          const at::Tensor& scale = {}) const;
  at::Tensor add_mlp(const at::Tensor& tokens, const at::Tensor& scale = {}) const;
};

// All blocks of a transformer in one go, in place of LibTorch's operators; with gradients.
class BlocksPass {
 public:
  virtual ~BlocksPass() = default;
  // tokens [n, T, dim] -> [n, T, dim], or [n, Q, dim] for the tokens `query_ids` [n, Q] int64. `scales`: see
  // Transformer.
  virtual at::Tensor forward(const at::Tensor& tokens, const std::optional<at::Tensor>& query_ids,
                             const at::Tensor& scales) = 0;
};

// `scales` [depth, 2, n] float32, undefined for 1: what each block multiplies, for each image, the
// attention's and the MLP's output by before it is added. Drop path is zeros among them (Huang et al. 2016).
struct Transformer {
  std::vector<TransformerBlock> blocks;
  LayerNormWeights norm;             // after the last block
  std::shared_ptr<BlocksPass> pass;  // may be null: how the blocks are computed while they are trained

  at::Tensor forward(at::Tensor tokens, const std::optional<at::Tensor>& hidden = {},
                     const at::Tensor& scales = {}) const;
  // The output of the tokens `query_ids` [n, Q] int64 alone, [n, Q, dim]; in the last block the others serve
  // as keys and values only. `first_qkv` [n, T, 3 * dim] saves the first block's projection when it is known.
  at::Tensor forward_at(at::Tensor tokens, const at::Tensor& query_ids,
                        const std::optional<at::Tensor>& first_qkv = {}, const at::Tensor& scales = {}) const;
  // Of the first token: [n, 1, dim].
  at::Tensor forward_first(const at::Tensor& tokens, const at::Tensor& scales = {}) const;
  void pack(const RunContext& context = {});
  // Lets go of the weights that pack() laid out anew, or of `all` products' weights.
  void drop_unpacked(bool all = false);
};

// Looks up tensors by canonical name while a model binds its weights.
LinearWeights linear_weights(const TensorMap& tensors, const std::string& name);
LayerNormWeights layer_norm_weights(const TensorMap& tensors, const std::string& name, double eps);
// Blocks `prefix`.0 ... and the final norm `norm`; an empty name: none.
Transformer transformer_weights(const TensorMap& tensors, const TransformerConfig& config,
                                const std::string& prefix, const std::string& norm, double eps);

// Initial weights as in MAE: Xavier-uniform linear maps, zero biases, unit norms.
void initialize_linear(TensorMap& tensors, const std::string& name, int64_t in, int64_t out,
                       at::Generator& generator);
void initialize_layer_norm(TensorMap& tensors, const std::string& name, int64_t dim);
void initialize_token(TensorMap& tensors, const std::string& name, int64_t dim,
                      at::Generator& generator);  // normal, 0.02
void initialize_transformer(TensorMap& tensors, const TransformerConfig& config, const std::string& prefix,
                            const std::string& norm, at::Generator& generator);

// Grid of images [n, 3, H, W], or of bytes [n, H, W, 3]; Error(kInvalidArgument) when the shape is another or
// not a multiple of the patch size.
Grid checked_grid(const at::Tensor& images, int64_t patch_size);

// x [n, T, C], ids [n, K] int64 -> [n, K, C]: tokens of x by id.
at::Tensor gather_tokens(const at::Tensor& x, const at::Tensor& ids);
// The same for row [m] int64 and ids [m, K]: result i has tokens of x[row[i]].
at::Tensor gather_tokens(const at::Tensor& x, const at::Tensor& row, const at::Tensor& ids);

int64_t total_bytes(const TensorMap& tensors);
}  // namespace ltrp
