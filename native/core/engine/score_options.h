// What a pseudo-score is of (method section 1).
#pragma once

#include <cstdint>

namespace ltrp {

enum class Drop { kDecoder, kEncoder, kBoth };
enum class Metric { kL1, kL2, kPsnr, kSsim };

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

}  // namespace ltrp
