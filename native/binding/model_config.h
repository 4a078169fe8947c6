// Geometry of the models and training types between JavaScript and the core.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>

#include "binding/arguments.h"
#include "binding/node_api.h"
#include "core/checkpoint/checkpoint.h"
#include "core/engine/leave_one_out.h"
#include "core/engine/teacher.h"
#include "core/model/config.h"

namespace ltrp::binding {

Napi::Object to_javascript(Napi::Env env, const MaeConfig& config);
Napi::Object to_javascript(Napi::Env env, const RankerConfig& config);

// Complete configurations, checked by validate().
MaeConfig mae_config(const Napi::Value& value, const std::string& name);
RankerConfig ranker_config(const Napi::Value& value, const std::string& name);

Drop drop_option(const Options& options, std::optional<Drop> fallback = {});
Metric metric_option(const Options& options, std::optional<Metric> fallback = {});
const char* name_of(Drop drop);
const char* name_of(Metric metric);

// 'float32' | 'float16' | 'bfloat16'.
StoredType stored_type(const Options& options);

// The device of NativeLoadOptions. What cannot be used here is Error(kUnsupported) with the reason, what is
// no device Error(kInvalidArgument).
c10::Device load_device(const Options& options);
// The precision of NativeLoadOptions, likewise.
Precision load_precision(const Options& options);

}  // namespace ltrp::binding
