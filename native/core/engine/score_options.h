// What a pseudo-score is of (docs/method.md, 1).
#pragma once

#include <cstdint>

#include "core/engine/metric.h"
#include "core/names.h"

namespace ltrp {

enum class Drop { kDecoder, kEncoder, kBoth };
template <>
struct Names<Drop> {
  static constexpr Named<Drop> all[] = {
      {Drop::kDecoder, "decoder"}, {Drop::kEncoder, "encoder"}, {Drop::kBoth, "both"}};
};

// Images that go through the encoder together where there are as many: with one image's few visible tokens it
// would mostly read weights.
constexpr int64_t kImagesToEncode = 8;

struct LeaveOneOutOptions {
  Drop drop = Drop::kDecoder;
  Metric metric = Metric::kL1;
  // Delta form only: the share of a difference's squared norm that may be left out before each matrix
  // product, per variant, by leaving out its smallest tokens. 0: nothing is.
  double tolerance = 0;
  int64_t memory_budget = int64_t{512} << 20;  // bytes for the activations of one chunk of variants
};

inline void validate(const LeaveOneOutOptions& options) {
  check_in(half_open(0, 1), "tolerance", options.tolerance);
  check_in(at_least(1), "memoryBudget", static_cast<double>(options.memory_budget));
}

}  // namespace ltrp
