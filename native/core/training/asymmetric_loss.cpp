#include "core/training/asymmetric_loss.h"

#include <ATen/ATen.h>

#include "core/check.h"

namespace ltrp {

void validate(const AsymmetricLossOptions& options) {
  check_in(at_least(0), "gammaNegative", options.gamma_negative);
  check_in(at_least(0), "gammaPositive", options.gamma_positive);
  check_in(half_open(0, 1), "margin", options.margin);
}

at::Tensor asymmetric_loss(const at::Tensor& logits, const at::Tensor& targets, double images,
                           const AsymmetricLossOptions& options) {
  constexpr double kLeast = 1e-8;
  // 1 - p as sigmoid(-x), which keeps its digits where p is nearly 1.
  const at::Tensor p = logits.sigmoid(), absent = (-logits).sigmoid();
  const at::Tensor q = (absent + options.margin).clamp_max(1);
  const at::Tensor positive = absent.detach().pow(options.gamma_positive) * p.clamp_min(kLeast).log();
  const at::Tensor negative =
      (p.detach() - options.margin).clamp_min(0).pow(options.gamma_negative) * q.clamp_min(kLeast).log();
  const at::Tensor y = targets.to(logits.scalar_type());
  // Not -0 where nothing is lost.
  return (0 - (y * positive + (1 - y) * negative).sum()) / images;
}

}  // namespace ltrp
