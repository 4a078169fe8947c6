// The loss of multi-label classification (docs/method.md, 4).
#pragma once

#include <ATen/core/Tensor.h>

namespace ltrp {

struct AsymmetricLossOptions {
  double gamma_negative = 4;  // at least 0
  double gamma_positive = 0;  // at least 0
  double margin = 0.05;       // [0, 1)
};

// Error(kInvalidArgument) names the option.
void validate(const AsymmetricLossOptions& options);

// logits [images, classes] floating, targets [images, classes] of 0 and 1 -> scalar of the logits' dtype,
// differentiable in them. Summed over classes and divided by `images`, which a caller who splits a batch sets
// to the whole batch's. The focusing powers carry no gradient.
at::Tensor asymmetric_loss(const at::Tensor& logits, const at::Tensor& targets, double images,
                           const AsymmetricLossOptions& options = {});

}  // namespace ltrp
