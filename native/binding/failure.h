// From C++ exceptions to JavaScript errors with a code.
#pragma once

#include <exception>
#include <string>

#include "binding/node_api.h"

namespace ltrp::binding {

// The contents of a JavaScript Error; made on the thread that caught the exception.
struct Failure {
  std::string code;     // ERR_LTRP_…
  std::string message;  // for people; without LibTorch's backtrace
};

// ltrp::Error keeps its code; failed allocations become ERR_LTRP_OUT_OF_MEMORY; everything else
// ERR_LTRP_INTERNAL.
Failure describe(std::exception_ptr exception);

// JavaScript thread only.
Napi::Error to_error(Napi::Env env, const Failure& failure);

// Runs `body` of a synchronous function; whatever it throws reaches JavaScript as an Error with a code.
template <typename Body>
auto guarded(Napi::Env env, Body&& body) -> decltype(body()) {
  try {
    return body();
  } catch (const Napi::Error&) {
    throw;
  } catch (...) {
    throw to_error(env, describe(std::current_exception()));
  }
}

}  // namespace ltrp::binding
