#include "binding/results.h"

#include <ATen/ops/from_blob.h>
#include <c10/util/accumulate.h>

#include <cstring>
#include <memory>
#include <string>

#include "core/error.h"

namespace ltrp::binding {
namespace {

// Below this a copy costs the JavaScript thread less than about a millisecond. Above it V8 gets the tensor's
// own memory; such a buffer cannot be transferred to another thread, only copied there.
constexpr size_t kCopyBytes = size_t{4} << 20;

napi_value array_buffer(Napi::Env env, const at::Tensor& tensor) {
  const size_t bytes = tensor.nbytes();
  if (bytes > kCopyBytes) {
    auto owner = std::make_unique<at::Tensor>(tensor);
    napi_value buffer = nullptr;
    const napi_status status = napi_create_external_arraybuffer(
        env, tensor.data_ptr(), bytes,
        [](napi_env, void*, void* hint) { delete static_cast<at::Tensor*>(hint); }, owner.get(), &buffer);
    if (status == napi_ok) {
      owner.release();
      return buffer;
    }
    // napi_no_external_buffers_allowed (Electron and other builds with a memory cage): copy instead.
  }
  Napi::ArrayBuffer copy = Napi::ArrayBuffer::New(env, bytes);
  if (bytes > 0) std::memcpy(copy.Data(), tensor.const_data_ptr(), bytes);
  return copy;
}

// V8 ends the process where it cannot allocate a buffer for Node-API; its constructor throws instead.
Napi::ArrayBuffer new_array_buffer(Napi::Env env, size_t bytes) {
  if (bytes <= kCopyBytes) return Napi::ArrayBuffer::New(env, bytes);
  const Napi::Function constructor = env.Global().Get("ArrayBuffer").As<Napi::Function>();
  try {
    return constructor.New({Napi::Number::New(env, static_cast<double>(bytes))}).As<Napi::ArrayBuffer>();
  } catch (const Napi::Error&) {
    throw Error(codes::kOutOfMemory, "A result of " + std::to_string(bytes >> 20) +
                                         " MiB does not fit in memory; pass fewer images at a time.");
  }
}

napi_typedarray_type array_type(at::ScalarType type) {
  switch (type) {
    case at::kFloat:
      return napi_float32_array;
    case at::kDouble:
      return napi_float64_array;
    case at::kInt:
      return napi_int32_array;
    default:
      throw Error(codes::kInternal, "A result has a type that JavaScript has no array for.");
  }
}

}  // namespace

Result::Result(Napi::Env env, Napi::ObjectReference& kept) : object_(Napi::Object::New(env)) {
  kept = Napi::Persistent(object_);
}

at::Tensor Result::array(const char* name, at::IntArrayRef shape, at::ScalarType type) {
  const Napi::Env env = object_.Env();
  const auto values = static_cast<size_t>(c10::multiply_integers(shape));
  Napi::ArrayBuffer buffer = new_array_buffer(env, values * c10::elementSize(type));
  napi_value made = nullptr;
  if (napi_create_typedarray(env, array_type(type), values, buffer, 0, &made) != napi_ok) {
    throw Napi::Error::New(env);
  }
  object_.Set(name, made);
  return at::from_blob(buffer.Data(), shape, type);
}

at::Tensor Result::float32(const char* name, at::IntArrayRef shape) { return array(name, shape, at::kFloat); }
at::Tensor Result::float64(const char* name, at::IntArrayRef shape) {
  return array(name, shape, at::kDouble);
}
at::Tensor Result::int32(const char* name, at::IntArrayRef shape) { return array(name, shape, at::kInt); }

void Result::shape(std::initializer_list<int64_t> shape) {
  object_.Set("shape", shape_array(object_.Env(), shape));
}

at::Tensor for_javascript(const at::Tensor& tensor) {
  at::Tensor result = tensor.to(at::kCPU);
  if (result.scalar_type() == at::kLong) result = result.to(at::kInt);
  result = result.contiguous();
  if (result.storage().nbytes() != result.nbytes()) result = result.clone();
  return result;
}

Napi::Value typed_array(Napi::Env env, const at::Tensor& tensor) {
  Napi::EscapableHandleScope scope(env);
  napi_value array = nullptr;
  const auto length = static_cast<size_t>(tensor.numel());
  if (napi_create_typedarray(env, array_type(tensor.scalar_type()), length, array_buffer(env, tensor), 0,
                             &array) != napi_ok) {
    throw Napi::Error::New(env);
  }
  return scope.Escape(Napi::Value(env, array));
}

Napi::Array shape_array(Napi::Env env, at::IntArrayRef shape) {
  Napi::Array array = Napi::Array::New(env, shape.size());
  uint32_t i = 0;
  for (int64_t size : shape) array[i++] = Napi::Number::New(env, static_cast<double>(size));
  return array;
}

}  // namespace ltrp::binding
