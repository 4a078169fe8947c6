// convertCheckpoint of lib/native/binding.ts.
#pragma once

#include "binding/node_api.h"

namespace ltrp::binding {

Napi::Value convert_checkpoint(const Napi::CallbackInfo& info);

}  // namespace ltrp::binding
