// NativePretrainOptions and NativeRankerTrainingOptions of lib/native/binding.ts.
#pragma once

#include <variant>

#include "binding/arguments.h"
#include "binding/node_api.h"
#include "core/training/trainer.h"

namespace ltrp::binding {

std::variant<PretrainOptions, RankerTrainingOptions> training_options(const Napi::Value& value);

Napi::Object to_javascript(Napi::Env env, const PretrainOptions& options);
Napi::Object to_javascript(Napi::Env env, const RankerTrainingOptions& options);

}  // namespace ltrp::binding
