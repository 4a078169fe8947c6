// What a forward pass costs: how much may be computed between two looks at the cancel flag.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/weights/config.h"
#include "kernels/backend.h"

namespace ltrp {

// Floating-point operations of `tokens` tokens through a stack of blocks; a multiply-add counts as two.
inline double transformer_flops(const TransformerConfig& config, int64_t tokens) {
  const auto t = static_cast<double>(tokens), dim = static_cast<double>(config.dim);
  const double linears = 2 * t * (4 * dim * dim + 2 * dim * static_cast<double>(config.mlp_dim));
  const double attention = 4 * t * t * dim;
  return static_cast<double>(config.depth) * (linears + attention);
}

// How many items of `flops_each` go into one piece of work on a device of that type.
inline int64_t items_between_polls(double flops_each, c10::DeviceType device) {
  const double flops = backend_of(device).flops_at_a_time();
  return std::max<int64_t>(1, static_cast<int64_t>(flops / std::max(flops_each, 1.0)));
}

}  // namespace ltrp
