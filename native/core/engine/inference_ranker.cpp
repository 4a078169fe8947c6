#include "core/engine/inference_ranker.h"

#include <ATen/ATen.h>

#include <limits>

namespace ltrp {

at::Tensor InferenceRanker::logits(const at::Tensor& images, const std::optional<at::Tensor>& visible,
                                   const RunContext& context) const {
  const int64_t patches = grid_of(images).patches();
  const TokenReader reader = model().reader(images, visible ? visible->size(1) : patches);
  const at::Tensor found = vit().read(images, visible, reader, context);
  if (!visible) return found;
  // A CLS head says something about patches that it has not seen, too; training reads no such logit.
  const bool all = config().head == RankerHead::kCls;
  return at::full({images.size(0), patches}, -std::numeric_limits<double>::infinity(), found.options())
      .scatter_(1, *visible, all ? found.gather(1, *visible) : found);
}

}  // namespace ltrp
