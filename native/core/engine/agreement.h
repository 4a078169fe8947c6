// How well one ordering agrees with another.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/run_context.h"

namespace ltrp {

// predicted, target [lists, items] -> [lists] float64. Kendall's tau-b (ties counted), O(items log items)
// time and O(items) memory. Error(kCancelled) within milliseconds.
at::Tensor kendall_tau(const at::Tensor& predicted, const at::Tensor& target, const RunContext& context = {});

// Spearman's rank correlation: Pearson's of the ranks, where equal values share the mean of theirs. NaN where
// a list is constant. As kendall_tau.
at::Tensor spearman(const at::Tensor& predicted, const at::Tensor& target, const RunContext& context = {});

// Normalised discounted cumulative gain of the first k items (0: all), gain = target shifted to start at 0,
// discount 1 / log2(rank + 1); equal predictions in the order of the items. [lists] float64. As kendall_tau
// in time and memory.
at::Tensor ndcg(const at::Tensor& predicted, const at::Tensor& target, int64_t k = 0,
                const RunContext& context = {});

}  // namespace ltrp
