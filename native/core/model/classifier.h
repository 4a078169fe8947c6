// A classifier that receives all patches of an image or only the kept ones (docs/method.md, 8).
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "core/model/ml_decoder.h"
#include "core/model/vit.h"
#include "core/weights/kind.h"

namespace ltrp {

enum class Pooling {
  kCls,         // the CLS token after `norm`: LTRP's, DeiT's, most of timm's, Hugging Face's
  kMean,        // the mean of the patch tokens, then `fc_norm`; there is no `norm`: MAE's fine-tuned files
  kNormedMean,  // `norm`, then the mean of the patch tokens: timm's with global_pool 'avg' and no fc_norm
  kQueries,     // all tokens after `norm`, by queries: ML-Decoder's
};
template <>
struct Names<Pooling> {
  static constexpr Named<Pooling> all[] = {{Pooling::kCls, "cls"},
                                           {Pooling::kMean, "mean"},
                                           {Pooling::kNormedMean, "normed-mean"},
                                           {Pooling::kQueries, "queries"}};
};

struct ClassifierConfig : VitConfig {
  int64_t classes = 0;  // 0: no head
  Pooling pooling = Pooling::kCls;
  int64_t queries = 0;    // of kQueries, at most one for each class; 0 for the others
  int64_t query_dim = 0;  // their width, a multiple of MlDecoder::kHeads; 0 for the others
  bool operator==(const ClassifierConfig&) const = default;

  static const ModelKind kind;
  template <typename Self, typename Visit>
  static void each(Self& c, Visit&& visit) {
    VitConfig::each(c, visit);
    visit("classes", c.classes);
    visit("pooling", c.pooling);
    visit("queries", c.queries);
    visit("query_dim", c.query_dim);
  }
  static void each_tensor(ClassifierConfig& c, TensorVisitor& visit);
  void recognise(Evidence& file);
  std::optional<Lacking> lacking() const;
  void check() const;
};
using ClassifierCheckpoint = Checkpoint<ClassifierConfig>;

class Classifier {
 public:
  // Takes the weights of a checked checkpoint; see Vit.
  explicit Classifier(const ClassifierCheckpoint& checkpoint, at::ScalarType dtype = at::kFloat,
                      at::Device device = at::kCPU, const RunContext& context = {});
  // Freshly initialised for training; the same weights from a seed on every device.
  static Classifier initialized(const ClassifierConfig& config, uint64_t seed, at::Device device = at::kCPU);

  const ClassifierConfig& config() const { return config_; }
  const Vit& vit() const { return vit_; }
  Vit& vit() { return vit_; }
  const TensorMap& tensors() const { return vit_.tensors(); }
  // See PatchRanker.
  void drop_products();
  int64_t weight_bytes() const { return total_bytes(tensors()); }

  // images as for Vit, `keep` [n, K] int64: only those patches go in, gathered after the positions are added.
  // Their order changes rounding only. -> logits [n, classes].
  // `scales`: see Transformer; `dropout`: of ML-Decoder, null where nothing is dropped.
  at::Tensor forward(const at::Tensor& images, const std::optional<at::Tensor>& keep = {},
                     const at::Tensor& scales = {}, const MlDecoderDropout* dropout = nullptr) const {
    return vit_.read(images, keep, logits(dropout), scales);
  }

  // What the head reads, [n, D] (of kQueries the mean of all normed tokens), and its logits, [n, classes].
  // Live no longer than the model.
  TokenReader embedding() const;
  // Error(kCheckpointContent) where there is no head.
  TokenReader logits(const MlDecoderDropout* dropout = nullptr) const;
  // For who differentiates what they read; not of kQueries.
  const LinearWeights& head() const { return head_; }
  const LayerNormWeights& fc_norm() const { return fc_norm_; }

 private:
  at::Tensor pooled(const at::Tensor& tokens) const;

  ClassifierConfig config_;
  Vit vit_;
  LayerNormWeights fc_norm_;
  LinearWeights head_;
  MlDecoder decoder_;
};

// logits [n, classes] -> ids of the k largest of each, the largest first, [n, k] int64; of equal ones the
// lower id first. Error(kInvalidArgument) unless 1 <= k <= classes.
at::Tensor top_classes(const at::Tensor& logits, int64_t k);

}  // namespace ltrp
