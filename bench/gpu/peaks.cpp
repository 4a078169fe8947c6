// What the GPU reaches with LibTorch's own matrix products, and with plain copying.
#include <ATen/ATen.h>
#include <ATen/Context.h>

#include <array>

#include "timing.h"

namespace ltrp::bench::gpu {
namespace {

using Shape = std::array<int64_t, 3>;  // rows, inputs, outputs

// A square product in which the library is at its best, then the linear maps of the published decoder on the
// rows of 200 variants of 196 tokens: qkv, proj, fc1, fc2.
constexpr std::array<Shape, 5> kShapes{
    {{8192, 8192, 8192}, {39200, 512, 1536}, {39200, 512, 512}, {39200, 512, 2048}, {39200, 2048, 512}}};

struct Product {
  const char* precision;
  at::ScalarType type;
  bool tf32 = false;
};

constexpr std::array<Product, 6> kProducts{{{"float32", at::kFloat},
                                            {"tf32", at::kFloat, true},
                                            {"bfloat16", at::kBFloat16},
                                            {"float16", at::kHalf},
                                            {"fp8", at::kFloat8_e4m3fn},
                                            {"int8", at::kChar}}};

double seconds_of_product(const Settings& settings, const Product& product, const Shape& shape) {
  const auto [rows, inputs, outputs] = shape;
  const auto options = at::device(at::kCUDA);
  if (product.type == at::kChar) {
    const at::Tensor x = at::randint(-127, 128, {rows, inputs}, options.dtype(at::kChar));
    const at::Tensor w = at::randint(-127, 128, {outputs, inputs}, options.dtype(at::kChar));
    return seconds_of(settings, [&] { at::_int_mm(x, w.t()); });
  }
  const at::Tensor x = at::randn({rows, inputs}, options).to(product.type);
  const at::Tensor w = at::randn({outputs, inputs}, options).to(product.type);
  if (product.type == at::kFloat8_e4m3fn) {
    const at::Tensor one = at::ones({}, options.dtype(at::kFloat));
    return seconds_of(settings, [&] {
      at::_scaled_mm(x, w.t(), one, one, /*bias=*/{}, /*scale_result=*/{}, at::kBFloat16,
                     /*use_fast_accum=*/true);
    });
  }
  return seconds_of(settings, [&] { at::mm(x, w.t()); });
}

}  // namespace

Json measure_products(const Settings& settings) {
  Json all = Json::array();
  for (const Product& product : kProducts) {
    at::globalContext().setAllowTF32CuBLAS(product.tf32);
    for (Shape shape : kShapes) {
      if (settings.small) shape = {64, 64, 64};
      Json entry = {{"precision", product.precision}, {"shape", shape}};
      try {
        const double seconds = seconds_of_product(settings, product, shape);
        entry["ms"] = seconds * 1e3;
        entry["tflops"] =
            seconds > 0 ? 2e-12 * static_cast<double>(shape[0] * shape[1] * shape[2]) / seconds : 0;
      } catch (const std::exception& error) {
        const std::string text = error.what();  // a GPU without this precision
        entry["unavailable"] = text.substr(0, text.find('\n'));
      }
      all.push_back(entry);
      if (settings.small) break;
    }
  }
  at::globalContext().setAllowTF32CuBLAS(false);
  return all;
}

Json measure_copy(const Settings& settings) {
  const int64_t bytes = settings.small ? 1 << 16 : int64_t{1} << 30;
  const at::Tensor from = at::zeros({bytes}, at::device(at::kCUDA).dtype(at::kByte));
  const at::Tensor to = at::empty_like(from);
  const double seconds = seconds_of(settings, [&] {
    check(cudaMemcpyAsync(to.data_ptr(), from.data_ptr(), static_cast<size_t>(bytes),
                          cudaMemcpyDeviceToDevice, nullptr));
  });
  return {{"bytes", 2 * bytes},
          {"ms", seconds * 1e3},
          {"gbps", seconds > 0 ? 2e-9 * static_cast<double>(bytes) / seconds : 0}};
}

}  // namespace ltrp::bench::gpu
