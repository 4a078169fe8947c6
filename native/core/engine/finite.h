// Results that are no numbers are refused rather than handed out.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>

namespace ltrp {

// `values` [images, ...] on any device, the results of images from `first_image` on; `what` names them in the
// plural. Error(kNotFinite) for the first image with NaN or infinity: pixels and weights were finite,
// so values in between went beyond float32.
void check_finite_result(const at::Tensor& values, const std::string& what, int64_t first_image = 0);

}  // namespace ltrp
