// Products in the tiles of AMX (kernels/cpu/simd/tiles.h), on a model of the tiles: against float64, against
// exact integers, and against the tests' own idea of a panel.
#include <ATen/ATen.h>
#include <ATen/ceil_div.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "kernels/simd.h"
#include "test/delta_support.h"

#ifdef LTRP_SIMD_WIDE
#include "kernels/cpu/simd/table.h"
#include "test/tiles/model.h"

namespace ltrp::simd::wide {
extern const KernelTable table;
}

namespace ltrp::test {
namespace {

using simd::MatrixProduct;

constexpr int64_t kPanel = 64;

struct Shape {
  int64_t rows, inputs, outputs;
};

// Whole and broken blocks of rows, steps of inputs and panels of outputs.
const std::vector<Shape> kShapes{{1, 4, 1},     {5, 64, 64},   {16, 32, 33},  {17, 68, 15},   {31, 100, 65},
                                 {32, 128, 32}, {33, 588, 70}, {70, 192, 96}, {200, 36, 130}, {7, 1024, 17}};

// The weights [N, K] of a type of `depth` inputs a lane in panels, by its definition in panels.h.
template <typename T>
std::vector<char> panels_of(const at::Tensor& weight, int64_t depth) {
  const int64_t outputs = weight.size(0), inputs = weight.size(1),
                panels = at::ceil_div<int64_t>(outputs, kPanel);
  // The vectors of the model need no alignment.
  std::vector<char> result(static_cast<size_t>(panels * kPanel * inputs) * sizeof(T));
  const T* from = static_cast<const T*>(weight.const_data_ptr());
  for (int64_t n = 0; n < outputs; ++n) {
    for (int64_t k = 0; k < inputs; ++k) {
      const int64_t at =
          ((n / kPanel * (inputs / depth) + k / depth) * kPanel + n % kPanel) * depth + k % depth;
      std::memcpy(result.data() + static_cast<size_t>(at) * sizeof(T), from + n * inputs + k, sizeof(T));
    }
  }
  return result;
}

// What a product left where it should not write.
constexpr float kUntouched = -77;

using Product = void (*)(const MatrixProduct&, int64_t, int64_t, int64_t, int64_t);

at::Tensor product_with(Product product, MatrixProduct args, int64_t row_begin, int64_t row_end,
                        int64_t panel_begin, int64_t panel_end, int64_t rows) {
  const at::Tensor y = at::full({rows, args.outputs}, kUntouched, at::kBFloat16);
  args.y = y.mutable_data_ptr();
  product(args, row_begin, row_end, panel_begin, panel_end);
  return y;
}

bool runs_here() {
  // The model is compiled for AVX2.
  return processor_simd_level() >= SimdLevel::kAvx2;
}

// Every row in every company has the same bits, and nothing else is written.
void check_ranges(const MatrixProduct& args, const at::Tensor& whole) {
  const int64_t rows = whole.size(0), panels = (args.outputs + kPanel - 1) / kPanel;
  for (const auto& [first, last] : std::vector<std::pair<int64_t, int64_t>>{
           {0, 1}, {rows / 2, rows}, {rows / 3, rows / 3 + 1}, {0, rows - 1}}) {
    for (int64_t panel = 0; panel < panels; ++panel) {
      const at::Tensor some =
          product_with(simd::wide::model_product, args, first, last, panel, panel + 1, rows);
      at::Tensor want = at::full_like(whole, kUntouched);
      const int64_t end = std::min(args.outputs, (panel + 1) * kPanel);
      want.slice(0, first, last)
          .slice(1, panel * kPanel, end)
          .copy_(whole.slice(0, first, last).slice(1, panel * kPanel, end));
      CHECK(some.equal(want));
    }
  }
  CHECK(simd::wide::faults_of_model() == 0);
  CHECK(simd::wide::model_is_released());
}

TEST_CASE("tiles: bfloat16 products are those of the rounded operands" * doctest::skip(!runs_here())) {
  uint64_t seed = 900;
  for (const auto& [rows, inputs, outputs] : kShapes) {
    for (const double size : {1.0, 1e4, 1e-20}) {
      CAPTURE(rows);
      CAPTURE(inputs);
      CAPTURE(outputs);
      CAPTURE(size);
      const at::Tensor x = normal({rows, inputs}, ++seed, size).to(at::kBFloat16),
                       weight = normal({outputs, inputs}, ++seed, 0.1).to(at::kBFloat16);
      const std::vector<char> panels = panels_of<uint16_t>(weight, 2);
      MatrixProduct args;
      args.encoding = args::Encoding::kBfloat16;
      args.inputs = inputs;
      args.outputs = outputs;
      args.x = x.const_data_ptr();
      args.panels = panels.data();
      const int64_t all = at::ceil_div<int64_t>(outputs, kPanel);
      const at::Tensor got = product_with(simd::wide::model_product, args, 0, rows, 0, all, rows);
      const at::Tensor want = doubles(x).matmul(doubles(weight).t());
      const at::Tensor sums = sum_tolerance(doubles(x), doubles(weight));
      CHECK((doubles(got) - want).abs().le(want.abs() / 256 * 1.001 + 1.01 * sums).all().item<bool>());
      check_ranges(args, got);
    }
  }
}

TEST_CASE("tiles: int8 sums are exact, and become what every level makes of them" *
          doctest::skip(!runs_here())) {
  uint64_t seed = 930;
  for (const auto& [rows, inputs, outputs] : kShapes) {
    for (const int32_t zero : {128, 32}) {
      CAPTURE(rows);
      CAPTURE(inputs);
      CAPTURE(outputs);
      const at::Tensor x = random_ids(256, {rows, inputs}, ++seed).to(at::kByte),
                       weight = (random_ids(255, {outputs, inputs}, ++seed) - 127).to(at::kChar);
      // The largest sums there are.
      x[0].fill_(255);
      weight[0].fill_(127);
      const int64_t all = at::ceil_div<int64_t>(outputs, kPanel);
      const at::Tensor scale = normal({all * kPanel}, ++seed).abs() + 1e-3;
      const at::Tensor offsets =
          at::constant_pad_nd(weight.sum(1, false, at::kInt), {0, all * kPanel - outputs});
      const std::vector<char> panels = panels_of<int8_t>(weight, 4);
      MatrixProduct args;
      args.encoding = args::Encoding::kUint8;
      args.inputs = inputs;
      args.outputs = outputs;
      args.x = x.const_data_ptr();
      args.panels = panels.data();
      args.sums = offsets.const_data_ptr<int32_t>();
      args.zero_point = zero;
      args.scale = scale.const_data_ptr<float>();
      const at::Tensor got = product_with(simd::wide::model_product, args, 0, rows, 0, all, rows);
      const at::Tensor exact =
          (x.to(at::kLong) - zero).unsqueeze(1).mul(weight.to(at::kLong).unsqueeze(0)).sum(2);
      const at::Tensor want = (exact.to(at::kFloat) * scale.slice(0, 0, outputs)).to(at::kBFloat16);
      CHECK(got.equal(want));
      CHECK(got.equal(product_with(simd::wide::table.product, args, 0, rows, 0, all, rows)));
      check_ranges(args, got);
    }
  }
}

}  // namespace
}  // namespace ltrp::test
#endif
