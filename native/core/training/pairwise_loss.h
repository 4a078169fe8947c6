// The loss over pairs of items that rankNet and focusedRank share, in O(items) memory.
#pragma once

#include <ATen/core/Tensor.h>

#include <optional>

#include "core/run_context.h"

namespace ltrp {

// Items of lists: their predictions and targets, both [lists, items], floating, on the CPU, outside autograd.
struct ListItems {
  at::Tensor predicted;
  at::Tensor target;
};

struct PairwiseLoss {
  double value = 0;
  // Derivatives of the value in the predictions, [lists, items] each. Undefined unless asked for.
  at::Tensor row_gradient, column_gradient;
};

// Half the mean, over all pairs of a row item i and a column item j of the same list, of the binary
// cross-entropy of sigmoid(s_i - s_j) against the order of their targets (1, 0, or 1/2 where these differ by
// less than 0.001). The bits do not depend on the number of threads. Error(kCancelled) within milliseconds.
PairwiseLoss pairwise_loss(const ListItems& rows, const ListItems& columns, bool gradient,
                           const RunContext& context);

}  // namespace ltrp
