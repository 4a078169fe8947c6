// ML-Decoder (Ridnik et al. 2023, arXiv 2111.12933): a head for many labels at a time (docs/method.md, 8).
// Fixed queries read all tokens by one layer of cross-attention; a query answers for a group of classes.
#pragma once

#include <ATen/core/Generator.h>
#include <ATen/core/Tensor.h>

#include <string>

#include "core/model/transformer.h"
#include "core/weights/tensors.h"

namespace ltrp {

// What dropout multiplies in training: 0 or 1 / (1 - rate). T tokens, Q queries of width d.
struct MlDecoderDropout {
  at::Tensor queries;    // [n, Q, d], of the queries before they are added to themselves
  at::Tensor attention;  // [n, heads, Q, T], of the weights
  at::Tensor attended;   // [n, Q, d], of the attention's output
  at::Tensor hidden;     // [n, Q, hidden], of the MLP's activations
  at::Tensor output;     // [n, Q, d], of the MLP's output
};

class MlDecoder {
 public:
  static constexpr int64_t kHeads = 8, kHidden = 2048;
  static constexpr double kDropout = 0.1;  // the authors' rate in training

  MlDecoder() = default;
  // Of tensors named `prefix`...; `classes` logits.
  MlDecoder(const TensorMap& tensors, const std::string& prefix, int64_t classes);

  // The tensors of a head of `queries` queries of width `dim` on tokens of width `tokens`.
  static void each_tensor(TensorVisitor& visit, const std::string& prefix, int64_t* tokens, int64_t* dim,
                          int64_t* queries, int64_t* classes);
  static void initialize(TensorMap& weights, const std::string& prefix, int64_t tokens, int64_t dim,
                         int64_t queries, int64_t classes, at::Generator& generator);

  // Tokens [n, T, D] -> logits [n, classes]. `dropout`: null where nothing is dropped. An image's logits do
  // not depend on the others.
  at::Tensor operator()(const at::Tensor& tokens, const MlDecoderDropout* dropout = nullptr) const;

  // For weights that will not change any more: products become faster, gradients impossible.
  void pack();

 private:
  // The queries' part of the attention, [Q, d] or [n, Q, d]: it does not depend on tokens.
  at::Tensor asked(const at::Tensor& residual) const;
  at::Tensor residual(const MlDecoderDropout* dropout) const;

  int64_t classes_ = 0;
  LinearWeights embed_, in_, out_, fc1_, fc2_;
  LayerNormWeights norm1_, norm2_, norm3_;
  at::Tensor queries_;       // [Q, d]
  at::Tensor pooling_;       // [Q, d, classes of a group]
  at::Tensor pooling_bias_;  // [classes]
  // Once pack() was called: what the queries add up to and ask, and the keys' and values' weights.
  at::Tensor known_residual_, known_asked_;
  LinearWeights keys_values_;
};

}  // namespace ltrp
