#include "binding/multi_label.h"

#include <ATen/ops/empty.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <string>
#include <vector>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/results.h"
#include "core/engine/average_precision.h"
#include "core/training/asymmetric_loss.h"

namespace ltrp::binding {
namespace {

// Float32Array or Uint8Array of 0 and 1.
at::Tensor targets_argument(const Napi::Value& value, const std::vector<int64_t>& shape) {
  const bool bytes =
      value.IsTypedArray() && value.As<Napi::TypedArray>().TypedArrayType() == napi_uint8_array;
  at::Tensor targets;
  if (bytes) {
    const at::Tensor given = byte_tensor(value, "targets", shape[0] * shape[1]);
    targets = at::empty(shape, at::kFloat);  // no operators: they would start threads here
    std::copy_n(given.const_data_ptr<uint8_t>(), given.numel(), targets.mutable_data_ptr<float>());
  } else {
    targets = float_tensor(value, "targets", shape);
  }
  const auto* values = targets.const_data_ptr<float>();
  for (int64_t i = 0; i < targets.numel(); ++i) {
    if (values[i] != 0 && values[i] != 1)
      invalid("targets must hold 0 and 1; value " + std::to_string(i) + " is " + text_of(values[i]) + ".");
  }
  return targets;
}

}  // namespace

Napi::Value asymmetric_loss(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const auto shape = shape_argument(info[3], "shape", 2, "[images, classes]");
    const at::Tensor logits = float_tensor(info[1], "logits", shape);
    const at::Tensor targets = targets_argument(info[2], shape);
    const Options given(info[4]);
    AsymmetricLossOptions options;
    options.gamma_negative = given.number("gammaNegative", options.gamma_negative);
    options.gamma_positive = given.number("gammaPositive", options.gamma_positive);
    options.margin = given.number("margin", options.margin);
    validate(options);
    Result result(info.Env(), kept);
    const at::Tensor gradient = result.float32("gradient", shape);
    return [=](const RunContext& context) -> MakeResult {
      // No inference mode: the gradient comes from autograd. float64: sums over classes and images of any
      // number.
      at::Tensor leaf = logits.to(at::kDouble).requires_grad_(true);
      const at::Tensor loss =
          ltrp::asymmetric_loss(leaf, targets, static_cast<double>(leaf.size(0)), options);
      context.check();
      loss.backward();
      gradient.copy_(leaf.grad());
      return [loss = loss.item<double>()](Napi::Env, Napi::Object kept) -> Napi::Value {
        kept.Set("loss", loss);
        return kept;
      };
    };
  });
}

Napi::Value average_precision(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const auto shape = shape_argument(info[3], "shape", 2, "[images, classes]");
    const at::Tensor scores = float_tensor(info[1], "scores", shape);
    const at::Tensor targets = targets_argument(info[2], shape);
    Result result(info.Env(), kept);
    const at::Tensor by_class = result.float64("perClass", {shape[1]});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      by_class.copy_(ltrp::average_precision(scores, targets, context));
      const at::Tensor found = by_class.masked_select(by_class.isnan().logical_not());
      const double mean = found.mean().item<double>();  // NaN of nothing
      const int64_t without = by_class.numel() - found.numel();
      return [=](Napi::Env env, Napi::Object kept) -> Napi::Value {
        kept.Set("mean", mean);
        kept.Set("withoutPositive", Napi::Number::New(env, static_cast<double>(without)));
        return kept;
      };
    };
  });
}

Napi::Value average_precision_of_draws(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const auto shape = shape_argument(info[3], "shape", 2, "[images, classes]");
    const at::Tensor scores = float_tensor(info[1], "scores", shape);
    const at::Tensor targets = targets_argument(info[2], shape);
    const at::Tensor times = class_ids(Options(info[4]), "times");
    if (times.numel() % shape[0] != 0)
      invalid("times must have a number for each image of each draw; it has " +
              std::to_string(times.numel()) + ".");
    const at::Tensor counts = times.view({-1, shape[0]});
    Result result(info.Env(), kept);
    const at::Tensor means = result.float64("means", {counts.size(0)});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      means.copy_(ltrp::average_precision_of_draws(scores, targets, counts.to(at::kInt), context).nanmean(1));
      return {};
    };
  });
}

}  // namespace ltrp::binding
