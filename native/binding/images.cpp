#include "binding/images.h"

#include <c10/core/InferenceMode.h>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/results.h"
#include "kernels/pixels.h"

namespace ltrp::binding {

Napi::Value normalize_images(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const at::Tensor bytes = images_argument(info[1]);
    if (bytes.scalar_type() != at::kByte) invalid("images.data must be a Uint8Array.");
    const Options options(info[2]);
    const std::array<double, 3> mean = options.three("mean"), deviation = options.three("std");
    const int64_t n = bytes.size(0), height = bytes.size(1), width = bytes.size(2);
    Result result(info.Env(), kept);
    const at::Tensor out = result.float32("data", {n, 3, height, width});
    result.shape({n, 3, height, width});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
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
