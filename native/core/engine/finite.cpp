#include "core/engine/finite.h"

#include <ATen/ATen.h>

#include "core/error.h"

namespace ltrp {

void check_finite_result(const at::Tensor& values, const std::string& what, int64_t first_image) {
  // A sum of zeros, or NaN: one pass, nothing kept.
  const at::Tensor finite = values.mul(0).flatten(1).sum(1).eq(0);
  if (finite.all().item<bool>()) return;
  const int64_t image = first_image + finite.logical_not().nonzero()[0].item<int64_t>();
  throw Error(codes::kNotFinite,
              "The " + what + " of image " + std::to_string(image) +
                  " are not finite, though its pixels and the model's weights are: values in between went "
                  "beyond float32. Check that the pixels are normalised with the model's mean and std, and "
                  "that these and the weights are those of a trained model.");
}

}  // namespace ltrp
