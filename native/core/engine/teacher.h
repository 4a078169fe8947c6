// A frozen masked autoencoder that gives scores, in the precision it was loaded for.
#pragma once

#include <memory>

#include "core/engine/delta_form.h"
#include "core/model/mae.h"
#include "kernels/replays.h"

namespace ltrp {

// What is fastest on the device for who asks for `wanted`: what is coarser than float32 needs instructions
// made for it; without them the next more exact precision that has its own is taken.
Precision effective_precision(Precision wanted, at::Device device = at::kCPU);

class Teacher {
 public:
  // Direct form in the model's own dtype; the model must outlive the teacher. Implicit, so that a model can
  // be asked.
  Teacher(const MaskedAutoencoder& model) : model_(&model) {}  // NOLINT(google-explicit-constructor)

  // Takes a float32 model, lays its weights out for inference and drops what training would need. kFloat32:
  // direct form; otherwise the delta form, in effective_precision(wanted).
  Teacher(MaskedAutoencoder model, Precision wanted);

  const MaskedAutoencoder& model() const { return *model_; }
  const DeltaForm* delta() const { return delta_.get(); }  // null: direct form
  Precision precision() const { return precision_; }
  int64_t weight_bytes() const;
  // Recordings of the direct form; null for a teacher that does not own its model.
  Replays* replays() const { return replays_.get(); }

 private:
  std::shared_ptr<const MaskedAutoencoder> owned_;
  const MaskedAutoencoder* model_;
  std::shared_ptr<const DeltaForm> delta_;
  std::shared_ptr<Replays> replays_;
  Precision precision_ = Precision::kFloat32;
};

}  // namespace ltrp
