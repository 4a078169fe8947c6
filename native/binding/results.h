// From tensors to JavaScript values. JavaScript thread only.
#pragma once

#include <ATen/core/Tensor.h>

#include <initializer_list>

#include "binding/node_api.h"

namespace ltrp::binding {

// Compute thread: a dense CPU tensor of a type that typed_array() takes, with a storage of its own. int64
// becomes int32.
at::Tensor for_javascript(const at::Tensor& tensor);

// float32 -> Float32Array, float64 -> Float64Array, int32 -> Int32Array; each with one ArrayBuffer of its
// own. Large tensors are handed over without a copy where the engine allows it; small ones are copied, which
// keeps them transferable.
Napi::Value typed_array(Napi::Env env, const at::Tensor& tensor);

Napi::Array shape_array(Napi::Env env, std::initializer_list<int64_t> shape);

}  // namespace ltrp::binding
