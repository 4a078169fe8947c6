#include "binding/failure.h"

#include <c10/util/Exception.h>

#include <new>
#include <stdexcept>
#include <string_view>

#include "core/error.h"
#include "kernels/interrupt.h"

namespace ltrp::binding {
namespace {

// LibTorch appends the place of the throw and the stack to its messages; neither helps the caller.
std::string without_backtrace(std::string_view message) {
  for (std::string_view mark :
       {"\nException raised from", "Exception raised from", "\nC++ CapturedTraceback"}) {
    if (size_t at = message.find(mark); at != std::string_view::npos) message = message.substr(0, at);
  }
  while (!message.empty() && (message.back() == '\n' || message.back() == ' ')) message.remove_suffix(1);
  return std::string(message);
}

bool is_failed_allocation(std::string_view message) {
  for (std::string_view mark :
       {"DefaultCPUAllocator", "can't allocate memory", "not enough memory", "out of memory"}) {
    if (message.find(mark) != std::string_view::npos) return true;
  }
  return false;
}

Failure out_of_memory(const std::string& detail) {
  return {codes::kOutOfMemory,
          "Memory ran out: lower memoryBudget, pass fewer or smaller images per call, or free memory on this "
          "machine" +
              (detail.empty() ? std::string(".") : " (" + detail + ").")};
}

}  // namespace

Failure describe(std::exception_ptr exception) {
  try {
    std::rethrow_exception(exception);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  } catch (const Interrupted& interrupted) {
    return {codes::kCancelled, interrupted.what()};
  } catch (const c10::OutOfMemoryError& error) {
    return out_of_memory(without_backtrace(error.what_without_backtrace()));
  } catch (const c10::Error& error) {
    std::string message = without_backtrace(error.what_without_backtrace());
    if (is_failed_allocation(message)) return out_of_memory(message);
    return {codes::kInternal, "LibTorch reported: " + message};
  } catch (const std::bad_alloc&) {
    return out_of_memory("");
  } catch (const std::length_error&) {
    return out_of_memory("a size beyond what a container can hold");
  } catch (const std::invalid_argument& error) {
    return {codes::kInvalidArgument, error.what()};  // of the kernels, which know no codes
  } catch (const std::exception& error) {
    return {codes::kInternal, without_backtrace(error.what())};
  } catch (...) {
    return {codes::kInternal, "The core threw something that is not an exception."};
  }
}

Napi::Error to_error(Napi::Env env, const Failure& failure) {
  Napi::Error error = Napi::Error::New(env, failure.message);
  error.Set("code", Napi::String::New(env, failure.code));
  return error;
}

}  // namespace ltrp::binding
