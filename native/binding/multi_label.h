// Multi-label classification: asymmetricLoss, averagePrecision, averagePrecisionOfDraws of
// lib/native/binding.ts.
#pragma once

#include "binding/node_api.h"

namespace ltrp::binding {

Napi::Value asymmetric_loss(const Napi::CallbackInfo& info);
Napi::Value average_precision(const Napi::CallbackInfo& info);
Napi::Value average_precision_of_draws(const Napi::CallbackInfo& info);

}  // namespace ltrp::binding
