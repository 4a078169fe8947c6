#include "binding/images.h"

#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>

#include <cmath>

#include "binding/arguments.h"
#include "binding/call.h"
#include "kernels/pixels.h"

namespace ltrp::binding {
namespace {

std::vector<double> three_numbers(const Napi::Value& value, const char* name, bool positive) {
  std::vector<double> numbers;
  if (value.IsArray() && value.As<Napi::Array>().Length() == 3) {
    for (uint32_t i = 0; i < 3; ++i) {
      const Napi::Value item = value.As<Napi::Array>().Get(i);
      const double number = item.IsNumber() ? item.As<Napi::Number>().DoubleValue() : std::nan("");
      if (std::isfinite(number) && (!positive || number > 0)) numbers.push_back(number);
    }
  }
  if (numbers.size() != 3) {
    refuse(std::string(name) + " must be three finite " + (positive ? "positive " : "") +
           "numbers (red, green, blue), but " +
           (value.IsArray() ? "[" + value.ToString().Utf8Value() + "]" : describe_value(value)) + " came.");
  }
  return numbers;
}

}  // namespace

Napi::Value normalize_images(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const auto shape = shape_argument(info[2], "shape", 3, "[images, height, width]");
    const int64_t n = shape[0], height = shape[1], width = shape[2];
    int64_t values = 0;
    if (__builtin_mul_overflow(n * height, width * 3, &values)) refuse("shape is larger than memory can be.");
    const at::Tensor bytes = byte_tensor(info[1], "pixels", values).view({n, height, width, 3});
    const std::vector<double> mean = three_numbers(info[3], "mean", /*positive=*/false);
    const std::vector<double> deviation = three_numbers(info[4], "std", /*positive=*/true);

    // The compute thread writes straight into the result: batches are large, and V8's own memory stays
    // transferable.
    Napi::Float32Array result = Napi::Float32Array::New(info.Env(), static_cast<size_t>(values));
    kept = Napi::Persistent(result.As<Napi::Object>());
    float* data = result.Data();
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      const at::Tensor out = at::from_blob(data, {n, 3, height, width}, at::kFloat);
      for (int64_t i = 0; i < n; ++i) {
        context.check();
        out.narrow(0, i, 1).copy_(normalize_pixels(bytes.narrow(0, i, 1), mean, deviation));
        context.progress(i + 1, n);
      }
      return {};
    };
  });
}

}  // namespace ltrp::binding
