// Functions on rankings: selectPatches, rankingLoss, rankAgreement of lib/native/binding.ts.
#pragma once

#include "binding/arguments.h"
#include "binding/node_api.h"
#include "core/engine/selection.h"

namespace ltrp::binding {

// NativeSelection of lib/native/binding.ts for n images of L patches. Patch size, mean and std are the
// caller's to set.
SelectionOptions selection_options(const Options& options, int64_t images, int64_t patches);

Napi::Value select_patches(const Napi::CallbackInfo& info);
Napi::Value ranking_loss(const Napi::CallbackInfo& info);
Napi::Value rank_agreement(const Napi::CallbackInfo& info);

}  // namespace ltrp::binding
