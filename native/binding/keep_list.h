// What follows from a picture's ranking: keepFor, denseRegions of lib/native/binding.ts.
#pragma once

#include "binding/node_api.h"

namespace ltrp::binding {

Napi::Value keep_for(const Napi::CallbackInfo& info);
Napi::Value dense_regions(const Napi::CallbackInfo& info);

}  // namespace ltrp::binding
