// Pseudo-scores in the delta form (method section 2): bfloat16 or int8 matrix products on differences only.
#pragma once

#include "core/engine/delta_stack.h"
#include "core/engine/score_options.h"
#include "core/model/mae.h"

namespace ltrp {

class DeltaForm {
 public:
  // A float32 model with a decoder, packed; it must outlive this.
  DeltaForm(const MaskedAutoencoder& model, Precision precision);

  // As leave_one_out_metric(): [n, V] float32.
  at::Tensor metric(const at::Tensor& images, const at::Tensor& visible, const LeaveOneOutOptions& options,
                    const RunContext& context) const;
  int64_t packed_bytes() const;

 private:
  struct Group;
  Group prepare(const at::Tensor& images, const at::Tensor& visible, const at::Tensor& latents,
                const LeaveOneOutOptions& options) const;
  at::Tensor run(const Group& group, int64_t begin, int64_t end, const LeaveOneOutOptions& options,
                 const RunContext& context) const;
  at::Tensor starting_difference(const Group& group, const VariantSet& set, const at::Tensor& slot,
                                 const LeaveOneOutOptions& options, const RunContext& context) const;

  const MaskedAutoencoder& model_;
  DeltaStack encoder_;
  DeltaStack decoder_;
  RoundedLinear decoder_embed_;
  RoundedLinear decoder_pred_;
};

}  // namespace ltrp
