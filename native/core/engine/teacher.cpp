#include "core/engine/teacher.h"

namespace ltrp {

Precision effective_precision(Precision wanted, at::Device device) {
  const auto fast = [&](Precision precision) { return has_fast_products(precision, device.type()); };
  if (fast(wanted)) return wanted;
  const bool eight_bits = wanted == Precision::kFloat8 || wanted == Precision::kInt8;
  if (eight_bits && fast(Precision::kInt8)) return Precision::kInt8;
  if (wanted != Precision::kFloat32 && fast(Precision::kBfloat16)) return Precision::kBfloat16;
  return Precision::kFloat32;
}

Teacher::Teacher(MaskedAutoencoder model, Precision wanted) {
  auto own = std::make_shared<MaskedAutoencoder>(std::move(model));
  own->pack();
  // An encoder alone gives no scores, but encodings.
  if (own->config().decoder) precision_ = effective_precision(wanted, own->device());
  if (precision_ != Precision::kFloat32) delta_ = std::make_shared<const DeltaForm>(*own, precision_);
  own->drop_unpacked();
  model_ = own.get();
  replays_ = std::make_shared<Replays>();
  owned_ = std::move(own);
}

int64_t Teacher::weight_bytes() const {
  return model_->weight_bytes() + (delta_ ? delta_->packed_bytes() : 0);
}

}  // namespace ltrp
