// How two reconstructions are compared (docs/method.md, 1).
#pragma once

#include <ATen/core/Tensor.h>

#include "core/names.h"
#include "core/weights/config.h"

namespace ltrp {

enum class Metric { kL1, kL2, kPsnr, kSsim, kReach };
template <>
struct Names<Metric> {
  static constexpr Named<Metric> all[] = {{Metric::kL1, "l1"},
                                          {Metric::kL2, "l2"},
                                          {Metric::kPsnr, "psnr"},
                                          {Metric::kSsim, "ssim"},
                                          {Metric::kReach, "reach"}};
};

// Whether it compares whole images; the others compare predictions of masked patches.
bool of_whole_images(Metric metric);

// One raw value for each of m reconstructions, [m]. anchors [g, T, C] and changed [m, T, C]: T patches of C
// values, in target space; all of the grid in raster order for metrics of whole images. image [m]: whose
// anchor.
at::Tensor compare(Metric metric, const at::Tensor& anchors, const at::Tensor& image,
                   const at::Tensor& changed, Grid grid);

}  // namespace ltrp
