// Selectors: what else could say which patches to keep (docs/method.md, 9). Each is a file of this folder and
// a line in the table.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <cstdint>
#include <string>

#include "core/run_context.h"
#include "core/weights/config.h"

namespace ltrp {

struct SelectorInput {
  at::Tensor pixels;  // [3, H, W] float64 in [0, 1], red, green, blue
  Grid grid;
  int64_t patch_size = 16;  // pixels
  int64_t keep = 0;         // patches that will be kept: in [1, L], or 0 where nobody says
  uint64_t seed = 0;
  int64_t image = 0;  // place in the batch, which noise depends on
};

// Scores [L] of an image's patches in raster order; the larger ones are kept.
at::Tensor centre_scores(const SelectorInput& input);
at::Tensor contrast_scores(const SelectorInput& input);
at::Tensor gradient_scores(const SelectorInput& input);
at::Tensor grid_scores(const SelectorInput& input);
at::Tensor random_scores(const SelectorInput& input);
at::Tensor variance_scores(const SelectorInput& input);

struct Selector {
  const char* name;
  at::Tensor (*score)(const SelectorInput&);
  bool needs_keep = false;
};
inline constexpr Selector kSelectors[] = {
    {"centre", centre_scores},   {"contrast", contrast_scores}, {"gradient", gradient_scores},
    {"grid", grid_scores, true}, {"random", random_scores},     {"variance", variance_scores},
};

// Pictures for selectors.
struct SelectorOptions {
  std::string selector;
  int64_t patch_size = 16;
  std::array<double, 3> mean, std;  // that float images were normalised with
  int64_t keep = 0;
  uint64_t seed = 0;
};

// The grid of images [n, 3, H, W] float32, normalised, or bytes [n, H, W, 3], for these options.
// Error(kInvalidArgument) for options that cannot be.
Grid check_selector(const at::Tensor& images, const SelectorOptions& options);

// Scores [n, L] float32. Progress counts images. Error(kCancelled).
at::Tensor selector_scores(const at::Tensor& images, const SelectorOptions& options,
                           const RunContext& context);

// The `keep` highest scores [n, L] of each image, in raster order; of equal ones the lower first: [n, keep]
// int64.
at::Tensor highest(const at::Tensor& scores, int64_t keep);

}  // namespace ltrp
