// Layer-wise decay of the learning rate in fine-tuning (docs/method.md, 8).
#pragma once

#include <string>

#include "core/training/optimizer.h"

namespace ltrp {

// decay^(depth + 1 - l): l = 0 for what embeds patches, i + 1 for block i, depth + 1 for what comes after
// them. No weight decay on tensors of one dimension, `cls_token` and `pos_embed`; ML-Decoder's queries are
// not trained. Error(kInternal) for a name that none of these rules knows: it would silently be trained as
// something else.
TensorRule layer_decay_rule(const std::string& name, const at::Tensor& tensor, int64_t depth, double decay);

// Learning rate of the step that follows `done` finished ones: done / warm-up of the peak, then a half-cosine
// from the peak to `least` at `steps`. kWsd: the peak, then 1 - sqrt from it to `least` over `decay_steps`.
double decayed_learning_rate(const TrainingOptions& options, double least, int64_t done);

// Of drop path: block i of `depth` is left out at rate * i / (depth - 1).
double drop_path_rate(double rate, int64_t block, int64_t depth);

}  // namespace ltrp
