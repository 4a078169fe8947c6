// State of one Node environment (main thread or worker). There are no static JavaScript handles.
#pragma once

#include <map>
#include <string>

#include "binding/compute_thread.h"
#include "binding/node_api.h"

namespace ltrp::binding {

struct Environment {
  explicit Environment(Napi::Env env) : compute(env) {}
  static Environment& of(Napi::Env env) { return *env.GetInstanceData<Environment>(); }

  ComputeThread compute;
  Napi::FunctionReference job_class;
  std::map<std::string, Napi::FunctionReference> model_classes;  // by kind
  Napi::FunctionReference trainer_class;
};

}  // namespace ltrp::binding
