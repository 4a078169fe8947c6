// From tensors to JavaScript values. JavaScript thread only.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>

#include "binding/node_api.h"

namespace ltrp::binding {

// Compute thread: a dense CPU tensor of a type that typed_array() takes, with its own storage. int64
// becomes int32.
at::Tensor for_javascript(const at::Tensor& tensor);

// float32 -> Float32Array, float64 -> Float64Array, int32 -> Int32Array; each with one ArrayBuffer of its
// own. Large tensors are handed over without a copy where the engine allows it, which makes an array that
// cannot be transferred to another thread: what callers of the library get comes from a Result.
Napi::Value typed_array(Napi::Env env, const at::Tensor& tensor);

// The object that a call's promise yields, made before the work begins, when all sizes are known: the compute
// thread writes into arrays of V8's own memory, which can be transferred, and nothing is copied on the
// JavaScript thread.
class Result {
 public:
  // `kept` as call.h hands it to what prepares the work; with an empty MakeResult the promise yields it.
  Result(Napi::Env env, Napi::ObjectReference& kept);

  // Adds an array under that name. The tensor lies in the array's memory, which lives until the promise is
  // settled; copy_() converts to its type.
  at::Tensor float32(const char* name, at::IntArrayRef shape);
  at::Tensor float64(const char* name, at::IntArrayRef shape);
  at::Tensor int32(const char* name, at::IntArrayRef shape);
  // Adds `shape`.
  void shape(std::initializer_list<int64_t> shape);

 private:
  at::Tensor array(const char* name, at::IntArrayRef shape, at::ScalarType type);

  Napi::Object object_;
};

Napi::Array shape_array(Napi::Env env, at::IntArrayRef shape);

}  // namespace ltrp::binding
