// A ranker that is not trained any more.
#pragma once

#include <optional>

#include "core/engine/inference.h"
#include "core/model/ranker.h"

namespace ltrp {

class InferenceRanker : public Inference<PatchRanker> {
 public:
  using Inference::Inference;

  // images as for InferenceVit; `visible` as for PatchRanker::forward -> logits [n, L] float32; patches that
  // did not go in have -infinity, so that they rank behind all that did.
  at::Tensor logits(const at::Tensor& images, const std::optional<at::Tensor>& visible,
                    const RunContext& context) const;
  Grid grid_of(const at::Tensor& images) const { return model().grid_of(images); }
};

}  // namespace ltrp
