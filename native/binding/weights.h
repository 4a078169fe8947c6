// readWeights of lib/native/binding.ts.
#pragma once

#include "binding/node_api.h"

namespace ltrp::binding {

Napi::Value read_weights(const Napi::CallbackInfo& info);

}  // namespace ltrp::binding
