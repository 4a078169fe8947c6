// Keep lists for other encoders: keepFor of lib/native/binding.ts.
#pragma once

#include "binding/node_api.h"

namespace ltrp::binding {

Napi::Value keep_for(const Napi::CallbackInfo& info);

}  // namespace ltrp::binding
