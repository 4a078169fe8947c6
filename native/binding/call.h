// The shape of every asynchronous function: (job, ...arguments) -> promise.
#pragma once

#include <type_traits>
#include <utility>

#include "binding/environment.h"
#include "binding/failure.h"

namespace ltrp::binding {

// `prepare` reads the arguments after the job, copies them and returns the Work. Whatever it throws becomes a
// rejection: an asynchronous function never throws. A `prepare` that takes a Napi::ObjectReference& may leave
// an object there that must live until the promise is settled.
template <typename Prepare>
Napi::Value enqueue(const Napi::CallbackInfo& info, Prepare&& prepare) {
  Napi::Env env = info.Env();
  auto rejected = [env](napi_value reason) -> Napi::Value {
    auto deferred = Napi::Promise::Deferred::New(env);
    deferred.Reject(reason);
    return deferred.Promise();
  };
  try {
    Job& job = Job::from(info[0]);
    Napi::ObjectReference kept;
    Work work;
    if constexpr (std::is_invocable_v<Prepare, Napi::ObjectReference&>) {
      work = prepare(kept);
    } else {
      work = prepare();
    }
    return Environment::of(env).compute.submit(job, std::move(work), std::move(kept));
  } catch (const Napi::Error& error) {
    return rejected(error.Value());
  } catch (...) {
    return rejected(to_error(env, describe(std::current_exception())).Value());
  }
}

}  // namespace ltrp::binding
