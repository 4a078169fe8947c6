// Functions on rankings: selectPatches, rankingLoss, rankAgreement of lib/native/binding.ts.
#pragma once

#include "binding/node_api.h"

namespace ltrp::binding {

Napi::Value select_patches(const Napi::CallbackInfo& info);
Napi::Value ranking_loss(const Napi::CallbackInfo& info);
Napi::Value rank_agreement(const Napi::CallbackInfo& info);

}  // namespace ltrp::binding
