#include "binding/model_config.h"

#include "core/device.h"
#include "core/error.h"

namespace ltrp::binding {
namespace {

constexpr int64_t kMaxField = int64_t{1} << 31;

Napi::Object to_javascript(Napi::Env env, const TransformerConfig& config) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("dim", static_cast<double>(config.dim));
  object.Set("depth", static_cast<double>(config.depth));
  object.Set("heads", static_cast<double>(config.heads));
  object.Set("mlpDim", static_cast<double>(config.mlp_dim));
  return object;
}

Napi::Array to_javascript(Napi::Env env, const std::array<double, 3>& values) {
  Napi::Array array = Napi::Array::New(env, values.size());
  for (uint32_t i = 0; i < values.size(); ++i) array[i] = Napi::Number::New(env, values[i]);
  return array;
}

// The fields that both models have.
template <typename Config>
Napi::Object common_fields(Napi::Env env, const Config& config) {
  Napi::Object object = Napi::Object::New(env);
  object.Set("imageHeight", static_cast<double>(config.image_height));
  object.Set("imageWidth", static_cast<double>(config.image_width));
  object.Set("patchSize", static_cast<double>(config.patch_size));
  object.Set("encoder", to_javascript(env, config.encoder));
  object.Set("layerNormEps", config.layer_norm_eps);
  object.Set("mean", to_javascript(env, config.mean));
  object.Set("std", to_javascript(env, config.std));
  return object;
}

TransformerConfig transformer_config(const Napi::Value& value, const std::string& name) {
  const Options options(value, name);
  TransformerConfig config;
  config.dim = options.integer("dim", 1, kMaxField);
  config.depth = options.integer("depth", 1, kMaxField);
  config.heads = options.integer("heads", 1, kMaxField);
  config.mlp_dim = options.integer("mlpDim", 1, kMaxField);
  return config;
}

std::array<double, 3> three(const Options& options, const char* key) {
  const std::vector<double> numbers = options.numbers(key, 3);
  return {numbers[0], numbers[1], numbers[2]};
}

template <typename Config>
void read_common_fields(const Options& options, Config& config) {
  config.image_height = options.integer("imageHeight", 1, kMaxField);
  config.image_width = options.integer("imageWidth", 1, kMaxField);
  config.patch_size = options.integer("patchSize", 1, kMaxField);
  config.encoder = transformer_config(options.get("encoder"), options.path("encoder"));
  config.layer_norm_eps = options.number("layerNormEps", 0, 1);
  config.mean = three(options, "mean");
  config.std = three(options, "std");
}

}  // namespace

Napi::Object to_javascript(Napi::Env env, const MaeConfig& config) {
  Napi::Object object = common_fields(env, config);
  object.Set("decoder", config.decoder ? Napi::Value(to_javascript(env, *config.decoder)) : env.Null());
  object.Set("normalizedTarget", config.normalized_target);
  return object;
}

Napi::Object to_javascript(Napi::Env env, const RankerConfig& config) {
  Napi::Object object = common_fields(env, config);
  object.Set("head", config.head == RankerHead::kCls ? "cls" : "token");
  return object;
}

MaeConfig mae_config(const Napi::Value& value, const std::string& name) {
  const Options options(value, name);
  MaeConfig config;
  read_common_fields(options, config);
  const Napi::Value decoder = options.get("decoder");
  if (!decoder.IsNull()) config.decoder = transformer_config(decoder, options.path("decoder"));
  config.normalized_target = options.boolean("normalizedTarget");
  validate(config);
  return config;
}

RankerConfig ranker_config(const Napi::Value& value, const std::string& name) {
  const Options options(value, name);
  RankerConfig config;
  read_common_fields(options, config);
  config.head =
      options.one_of<RankerHead>("head", {{"cls", RankerHead::kCls}, {"token", RankerHead::kToken}});
  validate(config);
  return config;
}

Drop drop_option(const Options& options, std::optional<Drop> fallback) {
  return options.one_of<Drop>(
      "drop", {{"decoder", Drop::kDecoder}, {"encoder", Drop::kEncoder}, {"both", Drop::kBoth}}, fallback);
}

Metric metric_option(const Options& options, std::optional<Metric> fallback) {
  return options.one_of<Metric>(
      "metric", {{"l1", Metric::kL1}, {"l2", Metric::kL2}, {"psnr", Metric::kPsnr}, {"ssim", Metric::kSsim}},
      fallback);
}

const char* name_of(Drop drop) {
  switch (drop) {
    case Drop::kDecoder:
      return "decoder";
    case Drop::kEncoder:
      return "encoder";
    case Drop::kBoth:
      return "both";
  }
  return "";
}

const char* name_of(Metric metric) {
  switch (metric) {
    case Metric::kL1:
      return "l1";
    case Metric::kL2:
      return "l2";
    case Metric::kPsnr:
      return "psnr";
    case Metric::kSsim:
      return "ssim";
  }
  return "";
}

StoredType stored_type(const Options& options) {
  return options.one_of<StoredType>("type", {{"float32", StoredType::kFloat32},
                                             {"float16", StoredType::kFloat16},
                                             {"bfloat16", StoredType::kBFloat16}});
}

c10::Device load_device(const Options& options) { return choose_device(options.string("device", "auto")); }

Precision load_precision(const Options& options) {
  return options.one_of<Precision>("precision",
                                   {{"float32", Precision::kFloat32},
                                    {"float16", Precision::kFloat16},
                                    {"bfloat16", Precision::kBfloat16},
                                    {"fp8", Precision::kFloat8},
                                    {"int8", Precision::kInt8}},
                                   Precision::kFloat32);
}

}  // namespace ltrp::binding
