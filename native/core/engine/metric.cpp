#include "core/engine/metric.h"

#include <ATen/ATen.h>

#include "kernels/difference.h"

namespace ltrp {

bool of_whole_images(Metric metric) { return metric == Metric::kPsnr || metric == Metric::kSsim; }

at::Tensor compare(Metric metric, const at::Tensor& anchors, const at::Tensor& image,
                   const at::Tensor& changed, Grid grid) {
  const auto anchor = [&] { return anchors.index_select(0, image); };
  switch (metric) {
    case Metric::kL1:
      return mean_absolute_difference(anchor(), changed);
    case Metric::kReach:
      return geometric_mean_difference(anchor(), changed);
    case Metric::kL2:
      return mean_squared_difference(anchor(), changed);
    case Metric::kPsnr:
      return peak_signal_to_noise(mean_squared_difference(anchor(), changed));
    case Metric::kSsim:
      return structural_similarity(anchors, image.to(at::kInt), {changed.flatten(0, 1).contiguous()},
                                   /*difference=*/false, {grid.rows, grid.columns});
  }
  throw Error(codes::kInternal, "A metric has no formula.");
}

}  // namespace ltrp
