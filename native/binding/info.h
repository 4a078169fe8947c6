// info() of lib/native/binding.ts: versions, CPU, devices.
#pragma once

#include "binding/node_api.h"

namespace ltrp::binding {

Napi::Value info(const Napi::CallbackInfo& info);

}  // namespace ltrp::binding
