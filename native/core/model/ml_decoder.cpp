#include "core/model/ml_decoder.h"

#include <ATen/ATen.h>

#include <cmath>

namespace ltrp {
namespace {

constexpr double kEps = 1e-5;

// The only layer of its stack.
std::string layer_of(const std::string& prefix) { return prefix + "layers.0."; }

int64_t group_size(int64_t classes, int64_t queries) {
  return queries > 0 ? (classes + queries - 1) / queries : 1;
}

LinearWeights rows_of(const LinearWeights& linear, int64_t begin, int64_t end) {
  return {linear.weight.slice(0, begin, end), linear.bias.slice(0, begin, end), {}};
}

at::Tensor scaled(const at::Tensor& x, const at::Tensor& by) { return by.defined() ? x * by : x; }

// [n, T, d] -> [n, heads, T, d / heads]
at::Tensor by_head(const at::Tensor& x) { return x.unflatten(-1, {MlDecoder::kHeads, -1}).transpose(1, 2); }

}  // namespace

MlDecoder::MlDecoder(const TensorMap& tensors, const std::string& prefix, int64_t classes)
    : classes_(classes),
      embed_(linear_weights(tensors, prefix + "embed_standart")),
      in_{tensors.at(layer_of(prefix) + "multihead_attn.in_proj_weight"),
          tensors.at(layer_of(prefix) + "multihead_attn.in_proj_bias"),
          {}},
      out_(linear_weights(tensors, layer_of(prefix) + "multihead_attn.out_proj")),
      fc1_(linear_weights(tensors, layer_of(prefix) + "linear1")),
      fc2_(linear_weights(tensors, layer_of(prefix) + "linear2")),
      norm1_(layer_norm_weights(tensors, layer_of(prefix) + "norm1", kEps)),
      norm2_(layer_norm_weights(tensors, layer_of(prefix) + "norm2", kEps)),
      norm3_(layer_norm_weights(tensors, layer_of(prefix) + "norm3", kEps)),
      queries_(tensors.at(prefix + "query_embed.weight")),
      pooling_(tensors.at(prefix + "duplicate_pooling")),
      pooling_bias_(tensors.at(prefix + "duplicate_pooling_bias")) {}

void MlDecoder::each_tensor(TensorVisitor& visit, const std::string& prefix, int64_t* tokens, int64_t* dim,
                            int64_t* queries, int64_t* classes) {
  const std::string layer = layer_of(prefix);
  visit.layer(prefix + "embed_standart", {dim, tokens});
  visit.tensor(layer + "multihead_attn.in_proj_bias", {{dim, 3}});
  visit.tensor(layer + "multihead_attn.in_proj_weight", {{dim, 3}, dim});
  visit.layer(layer + "multihead_attn.out_proj", {dim, dim});
  visit.layer(layer + "linear1", {kHidden, dim});
  visit.layer(layer + "linear2", {dim, kHidden});
  for (const char* norm : {"norm1", "norm2", "norm3"}) visit.layer(layer + norm, {dim});
  visit.tensor(prefix + "query_embed.weight", {queries, dim});
  visit.tensor(prefix + "duplicate_pooling", {queries, dim, group_size(*classes, *queries)});
  visit.tensor(prefix + "duplicate_pooling_bias", {classes});
}

void MlDecoder::initialize(TensorMap& weights, const std::string& prefix, int64_t tokens, int64_t dim,
                           int64_t queries, int64_t classes, at::Generator& generator) {
  const std::string layer = layer_of(prefix);
  const auto linear = [&](const std::string& name, int64_t in, int64_t out) {
    initialize_linear(weights, name, in, out, generator);
  };
  linear(prefix + "embed_standart", tokens, dim);
  linear(layer + "multihead_attn.in_proj", dim, 3 * dim);
  // PyTorch has no layer there, but two parameters.
  for (const char* end : {"weight", "bias"}) {
    auto moved = weights.extract(layer + "multihead_attn.in_proj." + end);
    moved.key() = layer + "multihead_attn.in_proj_" + end;
    weights.insert(std::move(moved));
  }
  linear(layer + "multihead_attn.out_proj", dim, dim);
  linear(layer + "linear1", dim, kHidden);
  linear(layer + "linear2", kHidden, dim);
  for (const char* norm : {"norm1", "norm2", "norm3"}) initialize_layer_norm(weights, layer + norm, dim);
  const int64_t group = group_size(classes, queries);
  weights[prefix + "query_embed.weight"] = at::empty({queries, dim}, at::kFloat).normal_(0, 1, generator);
  weights[prefix + "duplicate_pooling"] =
      at::empty({queries, dim, group}, at::kFloat)
          .normal_(0, std::sqrt(2.0 / static_cast<double>(group * (dim + queries))), generator);
  weights[prefix + "duplicate_pooling_bias"] = at::zeros({classes}, at::kFloat);
}

at::Tensor MlDecoder::residual(const MlDecoderDropout* dropout) const {
  return norm1_(queries_ + (dropout != nullptr ? scaled(queries_, dropout->queries) : queries_));
}

at::Tensor MlDecoder::asked(const at::Tensor& residual) const {
  return rows_of(in_, 0, queries_.size(1))(residual);
}

void MlDecoder::pack() {
  const int64_t dim = queries_.size(1);
  known_residual_ = residual(nullptr);
  known_asked_ = asked(known_residual_);
  keys_values_ = rows_of(in_, dim, 3 * dim);
  keys_values_.weight = keys_values_.weight.contiguous();
  for (LinearWeights* linear : {&embed_, &keys_values_, &out_, &fc1_, &fc2_}) {
    linear->pack();
    if (linear->packed.defined()) linear->weight.reset();
  }
}

at::Tensor MlDecoder::operator()(const at::Tensor& tokens, const MlDecoderDropout* dropout) const {
  const int64_t n = tokens.size(0), dim = queries_.size(1);
  const bool packed = known_asked_.defined();
  const at::Tensor before = packed ? known_residual_ : residual(dropout);
  const auto for_images = [&](const at::Tensor& x) { return x.dim() == 3 ? x : x.expand({n, -1, -1}); };
  const at::Tensor q = by_head(for_images(packed ? known_asked_ : asked(before)));
  const LinearWeights keys_values = packed ? keys_values_ : rows_of(in_, dim, 3 * dim);
  const std::vector<at::Tensor> kv = keys_values(embed_(tokens).relu()).chunk(2, -1);
  const at::Tensor k = by_head(kv[0]), v = by_head(kv[1]);
  at::Tensor attended;
  if (dropout != nullptr) {
    const double scale = 1 / std::sqrt(static_cast<double>(dim / kHeads));
    const at::Tensor weights = (at::matmul(q, k.transpose(-1, -2)) * scale).softmax(-1);
    attended = at::matmul(scaled(weights, dropout->attention), v);
  } else {
    attended = at::scaled_dot_product_attention(q, k, v);
  }
  const auto dropped = [&](const at::Tensor& x, at::Tensor MlDecoderDropout::*of) {
    return dropout != nullptr ? scaled(x, dropout->*of) : x;
  };
  const at::Tensor read = out_(attended.transpose(1, 2).flatten(2).contiguous());
  const at::Tensor middle = norm2_(for_images(before) + dropped(read, &MlDecoderDropout::attended));
  const at::Tensor hidden = dropped(fc1_(middle).relu(), &MlDecoderDropout::hidden);
  const at::Tensor after = norm3_(middle + dropped(fc2_(hidden), &MlDecoderDropout::output));
  // No product of matrices: each query has its own weights, and an image's sums must not depend on others.
  const at::Tensor logits = (after.unsqueeze(-1) * pooling_).sum(2).flatten(1).slice(1, 0, classes_);
  return logits + pooling_bias_;
}

}  // namespace ltrp
