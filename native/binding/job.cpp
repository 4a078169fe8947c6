#include "binding/job.h"

#include "binding/environment.h"
#include "binding/failure.h"
#include "core/error.h"

namespace ltrp::binding {

Napi::Function Job::define(Napi::Env env) {
  return DefineClass(env, "Job", {InstanceMethod("cancel", &Job::cancel)});
}

Job::Job(const Napi::CallbackInfo& info) : Napi::ObjectWrap<Job>(info) {
  Napi::Value on_progress = info[0];
  if (on_progress.IsUndefined()) return;
  if (!on_progress.IsFunction()) {
    throw to_error(info.Env(), {codes::kInvalidArgument, "onProgress must be a function."});
  }
  on_progress_ = Napi::Persistent(on_progress.As<Napi::Function>());
}

Job& Job::from(const Napi::Value& value) {
  Environment& environment = Environment::of(value.Env());
  if (!value.IsObject() || !value.As<Napi::Object>().InstanceOf(environment.job_class.Value())) {
    throw Error(codes::kInvalidArgument, "The first argument must be a Job made by this core.");
  }
  return *Unwrap(value.As<Napi::Object>());
}

void Job::begin() {
  if (used_) {
    throw Error(codes::kInvalidArgument,
                "This Job has served a call already; make a new one for every call.");
  }
  used_ = true;
}

void Job::cancel(const Napi::CallbackInfo& info) { Environment::of(info.Env()).compute.cancel(*state_); }

}  // namespace ltrp::binding
