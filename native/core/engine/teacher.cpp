#include "core/engine/teacher.h"

#include "core/device/precision.h"

namespace ltrp {

Teacher::Teacher(MaskedAutoencoder model, Precision wanted, const RunContext& context) {
  auto own = std::make_shared<MaskedAutoencoder>(std::move(model));
  own->pack(context);
  // An encoder alone gives no scores, but encodings.
  if (own->config().decoder) precision_ = effective_precision(wanted, own->device());
  if (precision_ != Precision::kFloat32)
    delta_ = std::make_shared<const DeltaForm>(*own, precision_, context);
  own->drop_unpacked();
  model_ = own.get();
  recordings_ = std::make_shared<Recordings>();
  owned_ = std::move(own);
}

int64_t Teacher::weight_bytes() const {
  return model_->weight_bytes() + (delta_ ? delta_->packed_bytes() : 0);
}

}  // namespace ltrp
