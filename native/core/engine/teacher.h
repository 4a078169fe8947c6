// A frozen masked autoencoder that gives scores, in the precision it was loaded for.
#pragma once

#include <memory>

#include "core/engine/delta_form.h"
#include "core/model/mae.h"
#include "kernels/recordings.h"

namespace ltrp {

class Teacher {
 public:
  // Direct form in the model's own dtype; the model must outlive the teacher. Implicit, so that a model can
  // be asked.
  Teacher(const MaskedAutoencoder& model) : model_(&model) {}  // NOLINT(google-explicit-constructor)

  // Takes a float32 model, lays its weights out for inference and drops what training would need. kFloat32:
  // direct form; otherwise the delta form, in effective_precision(wanted).
  Teacher(MaskedAutoencoder model, Precision wanted, const RunContext& context = {});

  const MaskedAutoencoder& model() const { return *model_; }
  const MaeConfig& config() const { return model_->config(); }
  const DeltaForm* delta() const { return delta_.get(); }  // null: direct form
  Precision precision() const { return precision_; }
  int64_t weight_bytes() const;
  // Recordings of the direct form; null for a teacher that does not own its model.
  Recordings* recordings() const { return recordings_.get(); }

 private:
  std::shared_ptr<const MaskedAutoencoder> owned_;
  const MaskedAutoencoder* model_;
  std::shared_ptr<const DeltaForm> delta_;
  std::shared_ptr<Recordings> recordings_;
  Precision precision_ = Precision::kFloat32;
};

}  // namespace ltrp
