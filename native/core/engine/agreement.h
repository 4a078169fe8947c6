// How well one ordering agrees with another.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/run_context.h"

namespace ltrp {

// predicted, target [lists, items] -> [lists] float64. Kendall's tau-b (ties counted), O(items log items)
// time and O(items) memory. Error(kCancelled) within milliseconds.
at::Tensor kendall_tau(const at::Tensor& predicted, const at::Tensor& target, const RunContext& context = {});

// Normalised discounted cumulative gain, gain = target shifted to start at 0, discount 1 / log2(rank + 1).
// [lists] float64. As kendall_tau in time and memory.
at::Tensor ndcg(const at::Tensor& predicted, const at::Tensor& target, const RunContext& context = {});

}  // namespace ltrp
