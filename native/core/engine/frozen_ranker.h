// A ranker that is not trained any more, in the precision it was loaded for.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/engine/rounded_stack.h"
#include "core/engine/shared_pass.h"
#include "core/model/ranker.h"
#include "core/run_context.h"
#include "kernels/replays.h"

namespace ltrp {

class FrozenRanker {
 public:
  // Takes a float32 model, lays its weights out for inference and drops what training would need. The
  // precision is effective_precision(wanted).
  FrozenRanker(PatchRanker model, Precision wanted);
  FrozenRanker(const FrozenRanker&) = delete;  // its recordings call it
  FrozenRanker& operator=(const FrozenRanker&) = delete;

  // images [n, 3, H, W] float32 contiguous, or bytes [n, H, W, 3] that are normalised with the model's own
  // mean and standard deviation; `visible` as for PatchRanker::forward -> logits [n, L] float32; patches that
  // did not go in have -infinity, so that they rank behind all that did. A few images at a time go through
  // the whole network on one thread, so that threads need not meet; images that are too few for that are
  // shared by row (shared_pass.h). An image's logits do not depend on the others. Progress counts images.
  at::Tensor logits(const at::Tensor& images, const std::optional<at::Tensor>& visible,
                    const RunContext& context) const;

  const RankerConfig& config() const { return model_.config(); }
  Grid grid_of(const at::Tensor& images) const { return model_.grid_of(images); }
  Precision precision() const { return precision_; }
  int64_t weight_bytes() const;
  const Replays& replays() const { return *replays_; }

 private:
  // The same on a device that work is queued on.
  at::Tensor queued_logits(const at::Tensor& images, const std::optional<at::Tensor>& visible,
                           const RunContext& context) const;
  // What the model adds to tokens, the embedding's bias included: [1 + L, E].
  at::Tensor table_for(Grid grid) const;
  // Patches of images, embedded without the bias; `ids` [n, P] or undefined for all.
  ProductRows embed(const at::Tensor& images, const at::Tensor& ids) const;
  // Logits of the patches that go in; `table` from table_for().
  at::Tensor forward(const at::Tensor& images, const at::Tensor& visible, const at::Tensor& table) const;
  // All logits of images whose rows `parts` threads share, into `out` [n, L].
  void forward_shared(const at::Tensor& images, const at::Tensor& visible, const at::Tensor& table,
                      int64_t parts, const at::Tensor& out, const RunContext& context) const;
  // The tokens of a part: embedded patches and positions.
  at::Tensor tokens_of(const std::vector<SharedPass::Segment>& segments, const at::Tensor& images,
                       const at::Tensor& ids, bool all_patches, const at::Tensor& table) const;

  PatchRanker model_;
  Precision precision_;
  // Not int8: 1.4% of a ViT-S/16's multiplications, but a fifth of the squared error of int8 throughout.
  Precision embedding_precision_;
  RoundedLinear embedding_;
  RoundedStack stack_;
  at::Tensor table_;  // of the model's own grid
  std::shared_ptr<Replays> replays_ = std::make_shared<Replays>();
};

}  // namespace ltrp
