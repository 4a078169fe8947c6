#include "core/engine/teacher.h"

namespace ltrp {

Precision effective_precision(Precision wanted) {
  if (wanted == Precision::kInt8 && has_fast_products(Precision::kInt8)) return wanted;
  if (wanted != Precision::kFloat32 && has_fast_products(Precision::kBfloat16)) return Precision::kBfloat16;
  return Precision::kFloat32;
}

Teacher::Teacher(MaskedAutoencoder model, Precision wanted) {
  auto own = std::make_shared<MaskedAutoencoder>(std::move(model));
  own->pack();
  // An encoder alone gives no scores, but encodings.
  if (own->config().decoder) precision_ = effective_precision(wanted);
  if (precision_ != Precision::kFloat32) delta_ = std::make_shared<const DeltaForm>(*own, precision_);
  own->drop_unpacked();
  model_ = own.get();
  owned_ = std::move(own);
}

int64_t Teacher::weight_bytes() const {
  return model_->weight_bytes() + (delta_ ? delta_->packed_bytes() : 0);
}

}  // namespace ltrp
