// joinRanks and what follows it, and the store of ltrp launch: see lib/native/binding.ts.
#pragma once

#include <memory>

#include "binding/node_api.h"
#include "core/ranks/ranks.h"

namespace ltrp::binding {

// Those that this process is one of, null before joinRanks: trainers that are made meanwhile train together.
std::shared_ptr<Ranks> joined_ranks();

Napi::Value join_ranks(const Napi::CallbackInfo& info);
Napi::Value exchange_ranks(const Napi::CallbackInfo& info);
Napi::Value leave_ranks(const Napi::CallbackInfo& info);
void end_ranks(const Napi::CallbackInfo& info);
Napi::Value host_ranks(const Napi::CallbackInfo& info);
void end_hosted_ranks(const Napi::CallbackInfo& info);

}  // namespace ltrp::binding
