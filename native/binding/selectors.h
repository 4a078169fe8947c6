// scoreBySelector of lib/native/binding.ts.
#pragma once

#include "binding/node_api.h"

namespace ltrp::binding {

Napi::Value score_by_selector(const Napi::CallbackInfo& info);

}  // namespace ltrp::binding
