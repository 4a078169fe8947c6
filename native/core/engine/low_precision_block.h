// The four matrix products of a transformer block, weights rounded and packed.
#pragma once

#include "core/model/transformer.h"
#include "kernels/linear.h"

namespace ltrp {

struct LowPrecisionBlock {
  LowPrecisionBlock(const TransformerBlock& block, Precision precision)
      : qkv(block.qkv.weight, precision),
        proj(block.proj.weight, precision),
        fc1(block.fc1.weight, precision),
        fc2(block.fc2.weight, precision) {}

  int64_t packed_bytes() const {
    return qkv.packed_bytes() + proj.packed_bytes() + fc1.packed_bytes() + fc2.packed_bytes();
  }

  LowPrecisionLinear qkv, proj, fc1, fc2;
};

}  // namespace ltrp
