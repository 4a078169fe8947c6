// How well scores find the labels of a data set: average precision by class.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/run_context.h"

namespace ltrp {

// scores [images, classes] floating, none NaN, targets [images, classes] of 0 and 1 -> [classes] float64:
// average precision over the distinct scores of a class, falling, where equal scores are one threshold: sum
// of (R_n - R_(n-1)) P_n. NaN for a class without a positive. O(images log images) time for each class.
// Error(kCancelled).
at::Tensor average_precision(const at::Tensor& scores, const at::Tensor& targets,
                             const RunContext& context = {});

// The same for resamples, whose intervals are those of a bootstrap over images: times [draws, images] int32,
// none negative, says how often an image counts -> [draws, classes] float64. Each class is sorted once.
at::Tensor average_precision_of_draws(const at::Tensor& scores, const at::Tensor& targets,
                                      const at::Tensor& times, const RunContext& context = {});

}  // namespace ltrp
