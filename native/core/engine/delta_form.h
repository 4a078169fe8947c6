// Pseudo-scores in the delta form (docs/method.md, 2): bfloat16 or int8 matrix products on
// differences only.
#pragma once

#include <memory>

#include "core/engine/delta_stack.h"
#include "core/engine/score_options.h"
#include "core/model/mae.h"
#include "kernels/recordings.h"

namespace ltrp {

class DeltaForm {
 public:
  // A float32 model with a decoder, packed; it must outlive this.
  DeltaForm(const MaskedAutoencoder& model, Precision precision, const RunContext& context = {});
  DeltaForm(const DeltaForm&) = delete;  // its recordings call it
  DeltaForm& operator=(const DeltaForm&) = delete;

  // As leave_one_out_metric(): [n, V] float32 on the host. Images may be on the host or on the model's
  // device.
  at::Tensor metric(const at::Tensor& images, const at::Tensor& visible, const LeaveOneOutOptions& options,
                    const RunContext& context) const;
  int64_t packed_bytes() const;
  const Recordings& recordings() const { return *recordings_; }

 private:
  struct Group;
  struct Pieces;
  Pieces pieces(const at::Tensor& images, int64_t visible, const LeaveOneOutOptions& options,
                int64_t memory_budget) const;
  at::Tensor metric_on(Queue& queue, const at::Tensor& images, const at::Tensor& visible,
                       const LeaveOneOutOptions& options, const RunContext& context) const;
  Group prepare(const at::Tensor& images, const at::Tensor& visible, const at::Tensor& latents, Grid grid,
                const LeaveOneOutOptions& options) const;
  at::Tensor run(const Group& group, int64_t begin, int64_t end, const LeaveOneOutOptions& options,
                 const RunContext& context) const;
  at::Tensor starting_difference(const Group& group, const VariantSet& set, const at::Tensor& slot,
                                 const LeaveOneOutOptions& options, const RunContext& context) const;

  const MaskedAutoencoder& model_;
  DeltaStack encoder_;
  DeltaStack decoder_;
  LowPrecisionLinear decoder_embed_;
  LowPrecisionLinear decoder_pred_;
  // Of encodings and of whole groups, on devices that record.
  std::shared_ptr<Recordings> recordings_ = std::make_shared<Recordings>();
};

}  // namespace ltrp
