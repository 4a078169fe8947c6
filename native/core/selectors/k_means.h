// k-means of an image's patches.
#pragma once

#include <ATen/core/Tensor.h>

#include <vector>

#include "core/run_context.h"

namespace ltrp {

struct KMeans {
  std::vector<int64_t> initial;     // the first K means are these patches
  std::vector<int64_t> assignment;  // [L]
  std::vector<int64_t> members;     // of every cluster the one nearest to its mean; -1 for an empty one
  int64_t rounds = 0;
};

// Patches [L, C] float64, `uniform` [K] float64 in [0, 1): k-means++ (Arthur and Vassilvitskii 2007) by
// inversion of the cumulative squared distances, then Lloyd's rounds until nothing moves. An empty cluster
// keeps its mean; of equally near ones the lower index counts.
KMeans k_means(const at::Tensor& patches, const at::Tensor& uniform, const RunContext& context);

}  // namespace ltrp
