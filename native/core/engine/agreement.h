// How well one ordering agrees with another.
#pragma once

#include <ATen/core/Tensor.h>

namespace ltrp {

// predicted, target [lists, items] -> [lists] float64. Kendall's tau-b (ties counted), O(items log items).
at::Tensor kendall_tau(const at::Tensor& predicted, const at::Tensor& target);

// Normalised discounted cumulative gain, gain = target shifted to start at 0, discount 1 / log2(rank + 1).
// [lists] float64.
at::Tensor ndcg(const at::Tensor& predicted, const at::Tensor& target);

}  // namespace ltrp
