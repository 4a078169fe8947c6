// One transformer block for some images on one thread, forward and backward, over kernels/training.h.
//
// Kept from the forward for the backward pass: the block's input, q, k and v, what the heads yield, the sum
// before the second norm and what goes into the GELU: 10 values for each of a token's `dim` (where the MLP is
// four times as wide). Norms, GELU and probabilities are computed anew, which is faster than to read them.
#pragma once

#include <ATen/ceil_div.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/training.h"

namespace ltrp {

// Floats, filled up to whole cache lines.
inline int64_t in_lines(int64_t floats) { return at::round_up<int64_t>(floats, 16); }

// Of one block, and of the images that pass through it.
struct BlockShape {
  int64_t dim = 0;
  int64_t mlp_dim = 0;
  int64_t heads = 0;
  int64_t tokens = 0;   // of an image
  int64_t queries = 0;  // of an image: tokens that the block yields
  double eps = 0;
  // Of the operands of products outside attention. `native`: see PanelProduct.
  Operand operand = Operand::kFloat32;
  bool native = false;
};

// The trained tensors of a block. Weights of products come first.
enum BlockTensor {
  kQkv,
  kProj,
  kFc1,
  kFc2,
  kQkvBias,
  kProjBias,
  kFc1Bias,
  kFc2Bias,
  kNorm1,
  kNorm1Bias,
  kNorm2,
  kNorm2Bias
};
constexpr size_t kBlockTensors = 12;
constexpr size_t kBlockProducts = 4;

struct BlockWeights {
  std::array<const float*, kBlockTensors> values{};
  // Panels of the weights [out, in], of the shape's operands: for y = x W^T, and for dx = dy W.
  std::array<const void*, kBlockProducts> forward{}, backward{};
};

// What the forward pass keeps, of all images.
struct BlockKept {
  const float* x = nullptr;  // [n, tokens, dim]
  float* qkv = nullptr;      // [n, tokens, 3 dim]
  float* o = nullptr;        // [n, queries, dim]
  float* middle = nullptr;   // [n, queries, dim]
  float* u = nullptr;        // [n, queries, mlp_dim]
  float* mean1 = nullptr;    // [n, tokens]
  float* inverse1 = nullptr;
  float* mean2 = nullptr;  // [n, queries]
  float* inverse2 = nullptr;
  float* most = nullptr;  // [n, heads, queries]
  float* share = nullptr;
};

class BlockPass {
 public:
  // `query_ids` [n, queries]: the tokens that are queries; null: all are. `scales`: what the output of the
  // attention and that of the MLP are multiplied by before they are added, [n] each; null: 1.
  BlockPass(const BlockShape& shape, const BlockWeights& weights, const BlockKept& kept,
            const int64_t* query_ids, const std::array<const float*, 2>& scales)
      : shape_(shape), weights_(weights), kept_(kept), query_ids_(query_ids), scales_(scales) {}

  // Images that pass at a time, and floats of scratch memory, 64-byte aligned, that they take.
  static int64_t images_at_a_time(const BlockShape& shape);
  static int64_t scratch_floats(const BlockShape& shape, int64_t images);

  // y [n, queries, dim], of the images [begin, end).
  void forward(int64_t begin, int64_t end, float* scratch, float* y) const;
  // dy [n, queries, dim] -> dx [n, tokens, dim], which may be dy where all tokens are queries. The weights'
  // gradients [as the weights] are added to, or overwritten when they are `fresh`.
  void backward(int64_t begin, int64_t end, float* scratch, const float* dy, float* dx,
                const std::array<float*, kBlockTensors>& gradients, bool fresh) const;

 private:
  HeadForward head(int64_t image, int64_t head, float* workspace) const;
  // The rows of x [n, tokens, dim] that are queries, [images, queries, dim]; and back, zeros elsewhere.
  const float* query_rows(const float* x, int64_t begin, int64_t end, float* scratch) const;
  const float* spread_queries(int64_t begin, int64_t end, const float* rows, float* scratch) const;
  void gather_queries(int64_t image, int64_t head, float* to) const;  // q of one head
  // Of the images [begin, end): rows [images, queries, dim] = residual + scale * rows; and the gradient's way
  // back, scale * gradient, in `scratch` unless there are no scales.
  void add_residual(int64_t begin, int64_t end, const float* scales, const float* residual,
                    float* rows) const;
  const float* scaled(int64_t begin, int64_t end, const float* scales, const float* gradient,
                      float* scratch) const;
  void attention_backward(int64_t begin, int64_t end, const float* d_o, float* dqkv, float* dq,
                          float* workspace) const;

  BlockShape shape_;
  BlockWeights weights_;
  BlockKept kept_;
  const int64_t* query_ids_;
  std::array<const float*, 2> scales_;
};

}  // namespace ltrp
