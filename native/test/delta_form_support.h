// A teacher twice: in float64, in the direct form; and as a packed float32 model in the delta form.
#pragma once

#include <string>
#include <vector>

#include "core/device/precision.h"
#include "core/engine/delta_form.h"
#include "core/engine/leave_one_out.h"
#include "core/engine/masking.h"
#include "test/core_support.h"

namespace ltrp::test {

class Delta {
 public:
  Delta(const MaeCheckpoint& checkpoint, Precision precision)
      : exact_(checkpoint, at::kDouble), model_(packed(checkpoint)), form_(model_, precision) {}
  Delta(const Delta&) = delete;
  Delta& operator=(const Delta&) = delete;

  at::Tensor metric(const at::Tensor& images, const at::Tensor& visible, const LeaveOneOutOptions& options,
                    const RunContext& context = {}) const {
    return form_.metric(images, visible, options, context);
  }
  // The direct form in float64.
  at::Tensor exact(const at::Tensor& images, const at::Tensor& visible,
                   const LeaveOneOutOptions& options) const {
    return leave_one_out_metric(exact_, images.to(at::kDouble), visible, options, {});
  }
  const DeltaForm& form() const { return form_; }

 private:
  static MaskedAutoencoder packed(const MaeCheckpoint& checkpoint) {
    MaskedAutoencoder model(checkpoint);
    model.pack();
    return model;
  }
  MaskedAutoencoder exact_, model_;
  DeltaForm form_;
};

inline MaeCheckpoint random_mae(const MaeConfig& config, uint64_t seed) {
  return {config, perturbed(MaskedAutoencoder::initialized(config, seed).tensors(), seed), "ltrp"};
}

// The precisions that this processor has instructions for.
inline std::vector<Precision> precisions_here() {
  std::vector<Precision> here{Precision::kFloat32};
  for (const Precision precision : {Precision::kBfloat16, Precision::kInt8}) {
    if (has_fast_products(precision)) {
      here.push_back(precision);
    } else {
      MESSAGE("skipped: this processor has no instructions for " << name_of(precision));
    }
  }
  return here;
}

// What a metric says of the size of a change: l1 and l2 (its root) the size itself, psnr (in dB) the root of
// the mean square, ssim what is missing to one.
inline at::Tensor size_of_change(const at::Tensor& metric, Metric kind) {
  const at::Tensor x = metric.to(at::kDouble);
  switch (kind) {
    case Metric::kL2:
      return x.sqrt();
    case Metric::kPsnr:
      return (x * (-std::log(10.0) / 20)).exp();
    case Metric::kSsim:
      return 1 - x;
    default:
      return x;
  }
}

inline double mean_relative_error(const at::Tensor& got, const at::Tensor& want) {
  return ((got.to(at::kDouble) - want) / want).abs().nan_to_num(1e300).mean().item<double>();
}

}  // namespace ltrp::test
