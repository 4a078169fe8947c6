// Our kernels, one by one, at the published decoder's sizes: width 512, 16 heads of 32, 196 patches, 200
// variants. Bytes are those that have to move at least, FLOPs those of the formula.
#include <ATen/ATen.h>

#include <functional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kernels/cuda/launchers.h"
#include "timing.h"

namespace ltrp::bench::gpu {
namespace {

constexpr int64_t kWidth = 512, kMlp = 2048, kHeads = 16, kHeadDim = 32, kTokens = 196;

struct Case {
  std::string name, precision;
  std::vector<int64_t> shape;
  double bytes = 0, flops = 0;
  std::function<void()> run;
};

at::Tensor random(at::IntArrayRef shape) { return at::randn(shape, at::device(at::kCUDA)); }
at::Tensor empty(at::IntArrayRef shape, at::ScalarType type = at::kFloat) {
  return at::empty(shape, at::device(at::kCUDA).dtype(type));
}

struct Output {
  const char* name;
  args::Encoding encoding;
  at::ScalarType type;
  double bytes;
};

constexpr Output kOutputs[] = {{"float32", args::Encoding::kFloat32, at::kFloat, 4},
                               {"bfloat16", args::Encoding::kBfloat16, at::kBFloat16, 2},
                               {"fp8", args::Encoding::kFloat8, at::kFloat8_e4m3fn, 1},
                               {"int8", args::Encoding::kInt8, at::kChar, 1}};

// The tensors of a case live as long as its `run`, which holds them.
args::Rounded rounded_to(const Output& output, const at::Tensor& values, const at::Tensor& scale) {
  return {output.encoding, values.data_ptr(), scale.data_ptr<float>()};
}

args::Product bfloat16_product(const at::Tensor& x) {
  return {x.data_ptr(), args::Encoding::kBfloat16, nullptr, nullptr};
}

// Variants of one image, one after another.
args::Variants set_of(int64_t variants, const at::Tensor& image) {
  args::Variants set;
  set.variants = variants;
  set.tokens = set.rows_tokens = kTokens;
  set.image = image.data_ptr<int32_t>();
  return set;
}

std::vector<Case> cases_of(const Settings& settings) {
  const int64_t variants = settings.small ? 2 : 200, rows = variants * kTokens;
  const double values = static_cast<double>(rows * kWidth), inner = static_cast<double>(rows * kMlp);
  const at::Tensor image = at::zeros({variants}, at::device(at::kCUDA).dtype(at::kInt));
  std::vector<Case> cases;

  for (const Output& output : kOutputs) {
    const at::Tensor out = empty({rows, kWidth}, output.type), scale = empty({rows});
    {
      args::LayerNormDifference a;
      const at::Tensor d = random({rows, kWidth}), update = random({rows, kWidth}).to(at::kBFloat16);
      const at::Tensor normed = random({kTokens, kWidth}),
                       deviation = at::ones({kTokens}, at::device(at::kCUDA));
      const at::Tensor weight = random({kWidth});
      a.set = set_of(variants, image);
      a.width = kWidth;
      a.d = d.data_ptr<float>();
      a.update = bfloat16_product(update);
      a.normed = normed.data_ptr<float>();
      a.deviation = deviation.data_ptr<float>();
      a.weight = weight.data_ptr<float>();
      a.out = rounded_to(output, out, scale);
      cases.push_back({"LayerNorm difference",
                       output.name,
                       {rows, kWidth},
                       values * (10 + output.bytes),
                       20 * values,
                       [=] {
                         (void)std::tie(d, update, normed, deviation, weight, out, scale, image);
                         cuda::launch_layer_norm_difference(a, rows, nullptr);
                       }});
    }
    {
      args::GeluDifference a;
      const at::Tensor du = random({rows, kMlp}).to(at::kBFloat16), u = random({kTokens, kMlp});
      const at::Tensor gelu_u = at::gelu(u), wide = empty({rows, kMlp}, output.type);
      a.set = set_of(variants, image);
      a.width = kMlp;
      a.du = bfloat16_product(du);
      a.u = u.data_ptr<float>();
      a.gelu_u = gelu_u.data_ptr<float>();
      a.out = rounded_to(output, wide, scale);
      cases.push_back(
          {"GELU difference", output.name, {rows, kMlp}, inner * (2 + output.bytes), 30 * inner, [=] {
             (void)std::tie(du, u, gelu_u, wide, scale, image);
             cuda::launch_gelu_difference(a, rows, nullptr);
           }});
    }
    {
      args::RoundRows a;
      const at::Tensor x = random({rows, kWidth});
      a.width = kWidth;
      a.x = x.data_ptr<float>();
      a.out = rounded_to(output, out, scale);
      cases.push_back({"round rows", output.name, {rows, kWidth}, values * (4 + output.bytes), 0, [=] {
                         (void)std::tie(x, out, scale);
                         cuda::launch_round_rows(a, rows, nullptr);
                       }});
    }
  }
  {
    args::AddRows a;
    const at::Tensor x = random({rows, kWidth}), update = random({rows, kWidth}).to(at::kBFloat16);
    a.width = kWidth;
    a.update = bfloat16_product(update);
    a.x = x.data_ptr<float>();
    cases.push_back({"add rows", "bfloat16", {rows, kWidth}, values * 10, values, [=] {
                       (void)std::tie(x, update);
                       cuda::launch_add_rows(a, rows, nullptr);
                     }});
  }
  const at::Tensor qkv = random({1, kHeads, 3, kTokens, kHeadDim});
  const at::Tensor removed = at::arange(variants, at::device(at::kCUDA)).remainder(kTokens).to(at::kInt);
  const at::Tensor anchor = random({kTokens, kWidth}), result = empty({rows, kWidth});
  {
    args::Attention a;
    const at::Tensor dqkv = random({variants, kHeads, 3, kTokens, kHeadDim}).to(at::kBFloat16);
    a.set = set_of(variants, image);
    a.heads = kHeads;
    a.head_dim = kHeadDim;
    a.qkv = qkv.data_ptr<float>();
    a.dqkv = bfloat16_product(dqkv);
    a.removed = removed.data_ptr<int32_t>();
    a.anchor_output = anchor.data_ptr<float>();
    a.out = result.data_ptr<float>();
    const double flops = 4.0 * static_cast<double>(variants * kHeads * kTokens * kTokens * kHeadDim);
    // In float32, and on the tensor cores.
    using Launch = void (*)(const args::Attention&, cuda::Stream);
    for (const auto& [name, launch] :
         {std::pair<const char*, Launch>{"attention difference", cuda::launch_attention},
          std::pair<const char*, Launch>{"attention difference, split", cuda::launch_attention_split}}) {
      cases.push_back({name,
                       "bfloat16",
                       {variants, kHeads, kTokens, kHeadDim},
                       values * (6 + 4),
                       flops,
                       [=, launch = launch] {
                         (void)std::tie(qkv, dqkv, removed, anchor, result, image);
                         launch(a, nullptr);
                       }});
    }
  }
  {
    args::RemovalAttention a;
    a.set = set_of(variants, image);
    a.heads = kHeads;
    a.head_dim = kHeadDim;
    a.qkv = qkv.data_ptr<float>();
    a.removed = removed.data_ptr<int32_t>();
    a.anchor_output = anchor.data_ptr<float>();
    a.out = result.data_ptr<float>();
    cases.push_back(
        {"removal attention", "float32", {variants, kHeads, kTokens, kHeadDim}, values * 4, 5 * values, [=] {
           (void)std::tie(qkv, removed, anchor, result, image);
           cuda::launch_removal_attention(a, 1, nullptr);
         }});
  }
  {
    args::NormalizePixels a;
    const int64_t images = settings.small ? 1 : 256;
    const at::Tensor bytes =
        at::randint(0, 256, {images, 224, 224, 3}, at::device(at::kCUDA).dtype(at::kByte));
    const at::Tensor pixels = empty({images, 3, 224, 224});
    a.images = images;
    a.height = a.width = 224;
    a.bytes = bytes.data_ptr<uint8_t>();
    for (float& std : a.std) std = 0.25f;
    a.out = pixels.data_ptr<float>();
    cases.push_back({"normalise pixels",
                     "float32",
                     {images, 3, 224, 224},
                     5.0 * static_cast<double>(pixels.numel()),
                     2.0 * static_cast<double>(pixels.numel()),
                     [=] {
                       (void)std::tie(bytes, pixels);
                       cuda::launch_normalize_pixels(a, nullptr);
                     }});
  }
  return cases;
}

}  // namespace

Json measure_kernels(const Settings& settings, double copy_gbps) {
  Json all = Json::array();
  for (const Case& kernel : cases_of(settings)) {
    Json entry = {{"name", kernel.name}, {"precision", kernel.precision}, {"shape", kernel.shape}};
    entry["bytes"] = kernel.bytes;
    entry["flops"] = kernel.flops;
    try {
      const double seconds = seconds_of(settings, kernel.run);
      const double gbps = seconds > 0 ? 1e-9 * kernel.bytes / seconds : 0;
      entry["ms"] = seconds * 1e3;
      entry["gbps"] = gbps;
      entry["tflops"] = seconds > 0 ? 1e-12 * kernel.flops / seconds : 0;
      entry["copyShare"] = copy_gbps > 0 ? gbps / copy_gbps : 0;
    } catch (const std::exception& error) {
      entry["failed"] = error.what();
    }
    all.push_back(entry);
  }
  return all;
}

}  // namespace ltrp::bench::gpu
