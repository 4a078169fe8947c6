// What one Node environment (main thread or worker) has of its own. There are no static JavaScript handles.
#pragma once

#include "binding/compute_thread.h"
#include "binding/node_api.h"

namespace ltrp::binding {

struct Environment {
  explicit Environment(Napi::Env env) : compute(env) {}
  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  ComputeThread compute;
  Napi::FunctionReference job_class;
  Napi::FunctionReference mae_class;
  Napi::FunctionReference ranker_class;
  Napi::FunctionReference trainer_class;
};

}  // namespace ltrp::binding
