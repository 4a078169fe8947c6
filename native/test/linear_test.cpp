// Matrix products with packed weights (kernels/linear.h) against float64 and, for int8, against exact integer
// arithmetic.
#include "kernels/linear.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>

#include "kernels/chains.h"
#include "test/delta_support.h"

namespace ltrp::test {
namespace {

// Rows, inputs, outputs.
const std::vector<std::array<int64_t, 3>> kShapes{{1, 1, 1},
                                                  {7, 3, 5},
                                                  {300, 17, 33},
                                                  {7, 100, 77},
                                                  {1, 257, 129},
                                                  {300, 64, 1},
                                                  {7, 1, 31},
                                                  {300, 255, 96},
                                                  // Whole and broken panels, tiles and blocks of rows.
                                                  {5, 64, 64},
                                                  {1, 4, 1},
                                                  {203, 128, 130},
                                                  {397, 36, 65},
                                                  {4, 512, 17},
                                                  {13, 3072, 70}};

RoundedRows rounded(const at::Tensor& x, Precision precision) {
  return round_rows({0, x.size(0), {}}, x, precision);
}

TEST_CASE("LowPrecisionLinear in float32 and bfloat16: x W^T of the rounded operands") {
  at_every_level([] {
    for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16}) {
      uint64_t seed = 400;
      for (const auto& [rows, inputs, outputs] : kShapes) {
        for (const double size : {1.0, 1e4, 1e-20}) {
          CAPTURE(rows);
          CAPTURE(inputs);
          CAPTURE(outputs);
          CAPTURE(size);
          const at::Tensor weight = normal({outputs, inputs}, ++seed, 0.1);
          const at::Tensor x = normal({rows, inputs}, seed + 1, size);
          const LowPrecisionLinear linear(weight, precision);
          CHECK(linear.packed_bytes() == outputs * inputs * (precision == Precision::kFloat32 ? 4 : 2));
          const ProductRows got = linear(rounded(x, precision));
          CHECK_FALSE(got.scale.defined());
          const bool narrow = precision == Precision::kBfloat16;
          CHECK((got.values.scalar_type() == (narrow ? at::kBFloat16 : at::kFloat)));
          const auto operand = [narrow](const at::Tensor& t) {
            return doubles(narrow ? t.to(at::kBFloat16) : t);
          };
          const at::Tensor want = operand(x).matmul(operand(weight).t());
          const at::Tensor allowed =
              rounding_of(want, precision) + 1.01 * sum_tolerance(operand(x), operand(weight));
          CHECK((value_of(got) - want).abs().le(allowed).all().item<bool>());
        }
      }
    }
  });
}

// That nothing is divided by their number, sanitizers see.
TEST_CASE("no rows have no products") {
  at_every_level([] {
    const at::Tensor weight = normal({70, 128}, 1, 0.1);
    for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16, Precision::kInt8}) {
      const ProductRows got = LowPrecisionLinear(weight, precision)(rounded(at::empty({0, 128}), precision));
      CHECK(got.values.sizes() == at::IntArrayRef{0, 70});
    }
    const at::Tensor packed = packed_weight(weight);
    CHECK(packed_linear(at::empty({0, 128}), packed, at::zeros({70}), /*gelu=*/false).sizes() ==
          at::IntArrayRef{0, 70});
  });
}

TEST_CASE("LowPrecisionLinear in int8: one scale per output and per row, exact sums, one bfloat16 rounding") {
  at_every_level([] {
    uint64_t seed = 430;
    for (const auto& [rows, inputs, outputs] : kShapes) {
      for (const double size : {1.0, 1e4, 1e-20}) {
        CAPTURE(rows);
        CAPTURE(inputs);
        CAPTURE(outputs);
        CAPTURE(size);
        at::Tensor weight = normal({outputs, inputs}, ++seed, size == 1e4 ? 1e-3 : 0.1);
        if (outputs > 2) weight[2].zero_();
        at::Tensor x = normal({rows, inputs}, seed + 1, size);
        if (rows > 3) x[3].zero_();
        const LowPrecisionLinear linear(weight, Precision::kInt8);
        CHECK(linear.packed_bytes() == outputs * inputs);
        const RoundedRows bytes = rounded(x, Precision::kInt8);
        const ProductRows got = linear(bytes);
        CHECK(got.scale.equal(bytes.scale));
        // The weights as they must have been rounded, the sums in int64.
        const at::Tensor scale = doubles(weight).abs().amax(1).div(127).clamp_min(1e-30);
        const at::Tensor steps = (doubles(weight) / scale.unsqueeze(1)).round();
        const at::Tensor sums =
            (bytes.values.to(at::kLong) - 128).unsqueeze(1).mul(steps.to(at::kLong).unsqueeze(0)).sum(2);
        const at::Tensor want = doubles(sums) * scale * doubles(bytes.scale).unsqueeze(1);
        // A weight right between two steps may go either way in float32: one step in its sum.
        const at::Tensor undecided = doubles(weight).div(scale.unsqueeze(1)).sub(steps).abs().gt(0.49999);
        const at::Tensor slack = (doubles(bytes.values) - 128).abs().matmul(doubles(undecided).t()) * scale *
                                 doubles(bytes.scale).unsqueeze(1);
        CHECK((value_of(got) - want).abs().le(want.abs() / 256 * 1.001 + slack).all().item<bool>());
        // And against the float64 product: half a step of each operand.
        const at::Tensor most = doubles(x).abs().amax(1, true) / 127;
        const at::Tensor rounding = 0.5 * most * doubles(weight).abs().sum(1) +
                                    0.5 * (doubles(x).abs() + 0.5 * most).sum(1, true) * scale;
        const at::Tensor exact = doubles(x).matmul(doubles(weight).t());
        CHECK((value_of(got) - exact)
                  .abs()
                  .le(1.01 * (rounding + (exact.abs() + rounding) / 256))
                  .all()
                  .item<bool>());
        if (rows > 3) CHECK(value_of(got)[3].eq(0).all().item<bool>());
        if (outputs > 2) CHECK(value_of(got).select(1, 2).eq(0).all().item<bool>());
      }
    }
  });
}

TEST_CASE("int8 products never saturate: rows and weights of +-127 over thousands of inputs") {
  at_every_level([] {
    constexpr int64_t kRows = 9, kOutputs = 33;
    for (const int64_t inputs : {64, 2048, 5120}) {
      CAPTURE(inputs);
      const auto signs = [](at::IntArrayRef shape, uint64_t seed) {
        return at::empty(shape, at::kLong).random_(0, 2, generator_for(seed, 31)).mul_(2).sub_(1);
      };
      at::Tensor x = 127 * signs({kRows, inputs}, 461), weight = 127 * signs({kOutputs, inputs}, 462);
      x[0].fill_(127);  // the largest sums of all: as unsigned bytes, 255 * 127 * 2 for two neighbours
      x[1].fill_(-127);
      weight[0].fill_(127);
      weight[1].fill_(-127);
      const RoundedRows rows{(x + 128).to(at::kByte), at::ones({kRows}, at::kFloat)};
      // The largest weight is 127: the scale is one, the sums are integers.
      const auto product = [&rows](const at::Tensor& w) {
        return value_of(LowPrecisionLinear(w.to(at::kFloat), Precision::kInt8)(rows));
      };
      const auto sums = [&x](const at::Tensor& w) { return x.unsqueeze(1).mul(w.unsqueeze(0)).sum(2); };
      const at::Tensor want = doubles(sums(weight));
      CHECK(want.abs().max().item<int64_t>() == 127 * 127 * inputs);
      CHECK(product(weight).equal(doubles(want.to(at::kBFloat16))));

      // Sums that all but cancel are small integers, which bfloat16 holds exactly: any saturation on the way
      // would show in full.
      const int64_t half = inputs / 2;
      x.slice(1, half).copy_(-x.slice(1, 0, half));
      weight.slice(1, half).copy_(weight.slice(1, 0, half));
      weight.slice(1, half, half + 3).copy_(at::zeros({kOutputs, 3}, at::kLong));
      weight.slice(1, 0, 3).copy_(signs({kOutputs, 3}, 463));
      rows.values.copy_((x + 128).to(at::kByte));
      const at::Tensor small = sums(weight);
      CHECK(small.abs().max().item<int64_t>() == 3 * 127);
      CHECK(product(weight).equal(doubles(small.to(at::kBFloat16))));
    }
  });
}

TEST_CASE("packed_linear: x W^T + b, alone, with GELU and with a residual") {
  at_every_level([] {
    uint64_t seed = 480;
    for (const auto& [rows, inputs, outputs] : kShapes) {
      for (const double size : {1.0, 1e4, 1e-20}) {
        CAPTURE(rows);
        CAPTURE(inputs);
        CAPTURE(outputs);
        CAPTURE(size);
        const at::Tensor weight = normal({outputs, inputs}, ++seed, 0.2);
        const at::Tensor bias = normal({outputs}, seed + 1), packed = packed_weight(weight);
        const at::Tensor x = normal({rows, inputs}, seed + 2, size),
                         y = normal({rows, outputs}, seed + 3, size);
        const at::Tensor linear = doubles(x).matmul(doubles(weight).t()) + doubles(bias);
        const at::Tensor tolerance =
            sum_tolerance(doubles(x), doubles(weight)) + 4 * kUlp * (doubles(bias).abs() + linear.abs());
        const auto check = [](const at::Tensor& got, const at::Tensor& want, const at::Tensor& allowed) {
          REQUIRE(got.sizes() == want.sizes());
          CHECK((doubles(got) - want).abs().le(allowed).all().item<bool>());
        };
        check(packed_linear(x, packed, bias), linear, tolerance);
        // GELU's slope is at most 1.13; oneDNN's erf is right to a few 1e-7.
        check(packed_linear(x, packed, bias, /*gelu=*/true), at::gelu(linear),
              1.2 * tolerance + 4e-7 * linear.abs());
        check(packed_linear_add(x, packed, bias, y), linear + doubles(y),
              tolerance + 4 * kUlp * (doubles(y).abs() + linear.abs()));
        // Leading dimensions are kept.
        const at::Tensor folded = packed_linear(x.view({1, rows, 1, inputs}), packed, bias);
        CHECK(folded.sizes() == at::IntArrayRef({1, rows, 1, outputs}));
        check(packed_linear_add(x.unsqueeze(0), packed, bias, y.unsqueeze(0)),
              (linear + doubles(y)).unsqueeze(0),
              (tolerance + 4 * kUlp * (doubles(y).abs() + linear.abs())).unsqueeze(0));
      }
    }
  });
}

TEST_CASE("packed_linear_add leaves its residual as it is") {
  at_every_level([] {
    const at::Tensor weight = normal({16, 16}, 490), x = normal({5, 16}, 491), bias = at::zeros({16});
    const at::Tensor residual = normal({5, 16}, 492), before = residual.clone();
    const at::Tensor got = packed_linear_add(x, packed_weight(weight), bias, residual);
    CHECK(residual.equal(before));
    CHECK_FALSE(got.equal(before));
  });
}

TEST_CASE("weights keep the form they were packed in when the level changes afterwards") {
  const SimdLevelGuard guard;
  const at::Tensor weight = normal({65, 64}, 495), x = normal({7, 64}, 496), bias = normal({65}, 497);
  for (const Precision precision : all_precisions()) {
    set_simd_level(available_simd_levels().back());
    const LowPrecisionLinear linear(weight, precision);
    const at::Tensor packed = packed_weight(weight);
    const at::Tensor product = value_of(linear(rounded(x, precision)));
    const at::Tensor sum = packed_linear(x, packed, bias);
    set_simd_level(SimdLevel::kPlain);
    CHECK(value_of(linear(rounded(x, precision))).equal(product));
    CHECK(packed_linear(x, packed, bias).equal(sum));
  }
}

// Rows in every remainder of a tile and of a block; inputs in one block of a panel and in several; outputs
// that fill their panels and that do not.
TEST_CASE("a row has the same bits whatever the rows beside it, its place and the threads") {
  constexpr int64_t kRows = 213;
  at_every_level([] {
    for (const auto& [inputs, outputs] :
         std::vector<std::array<int64_t, 2>>{{192, 64}, {3, 130}, {770, 47}, {5121, 20}}) {
      const at::Tensor weight = normal({outputs, inputs}, 501, 0.1), bias = normal({outputs}, 502);
      const at::Tensor x = normal({kRows, inputs}, 503), residual = normal({kRows, outputs}, 504);
      const at::Tensor packed = packed_weight(weight);
      std::vector<std::function<at::Tensor(int64_t, int64_t)>> products;
      products.emplace_back([=](int64_t begin, int64_t end) {
        return packed_linear(x.slice(0, begin, end), packed, bias, /*gelu=*/true);
      });
      products.emplace_back([=](int64_t begin, int64_t end) {
        return packed_linear_add(x.slice(0, begin, end), packed, bias, residual.slice(0, begin, end));
      });
      for (const Precision precision : all_precisions()) {
        const LowPrecisionLinear linear(weight, precision);
        products.emplace_back([=](int64_t begin, int64_t end) {
          return linear(rounded(x.slice(0, begin, end), precision)).values;
        });
      }
      for (size_t kind = 0; kind < products.size(); ++kind) {
        CAPTURE(inputs);
        CAPTURE(kind);
        const at::Tensor all = products[kind](0, kRows);
        for (int64_t count = 1; count <= 13; ++count) {
          CHECK(products[kind](count, 2 * count).equal(all.slice(0, count, 2 * count)));
        }
        CHECK(products[kind](3, kRows).equal(all.slice(0, 3)));
        at::Tensor alone = at::empty_like(all);
        // Inside a parallel region nothing is shared out.
        at::parallel_for(0, 2, 1, [&](int64_t begin, int64_t end) {
          for (int64_t i = begin; i < end; ++i) {
            const int64_t first = i * 100, last = i == 0 ? 100 : kRows;
            alone.slice(0, first, last).copy_(products[kind](first, last));
          }
        });
        CHECK(alone.equal(all));
      }
    }
  });
}

TEST_CASE("int8 sums are the same at every level, and so is what they are rounded to") {
  const SimdLevelGuard guard;
  for (const auto& [rows, inputs, outputs] : kShapes) {
    const at::Tensor weight = normal({outputs, inputs}, 511, 0.1), x = normal({rows, inputs}, 512);
    set_simd_level(SimdLevel::kPlain);
    const RoundedRows bytes = rounded(x, Precision::kInt8);
    at::Tensor first;
    at_every_level([&] {
      const at::Tensor got = LowPrecisionLinear(weight, Precision::kInt8)(bytes).values;
      if (!first.defined()) first = got;
      CHECK(got.equal(first));
    });
  }
}

TEST_CASE("a chained product rounds as its definition says, at every level") {
  for (const auto& [rows, terms, columns] : kShapes) {
    const at::Tensor left = at::randn({rows, terms}), right = at::randn({terms, columns});
    at::Tensor want = at::empty({rows, columns});
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) {
        float total = 0;
        for (int64_t first = 0; first < terms; first += 192) {
          float chain = 0;
          for (int64_t k = first; k < std::min(first + 192, terms); ++k) {
            chain = std::fma(left.const_data_ptr<float>()[i * terms + k],
                             right.const_data_ptr<float>()[k * columns + j], chain);
          }
          total += chain;
        }
        want.mutable_data_ptr<float>()[i * columns + j] = total;
      }
    }
    at_every_level([&] { CHECK(at::equal(chained_product(left, right), want)); });
  }
}

TEST_CASE("what a level has no instructions for is not fast, unless it is to be emulated") {
  const bool before = precisions_are_emulated();
  at_every_level([] {
    const SimdLevel level = simd_level();
    emulate_precisions(false);
    CHECK(has_fast_products(Precision::kFloat32));
    CHECK(has_fast_products(Precision::kBfloat16) == (level >= SimdLevel::kAvx512Bf16));
    CHECK(has_fast_products(Precision::kInt8) ==
          (level == SimdLevel::kAvxVnni || level >= SimdLevel::kAvx512Vnni));
    emulate_precisions(true);
    for (const Precision precision : all_precisions()) CHECK(has_fast_products(precision));
    for (const Precision precision : {Precision::kFloat16, Precision::kFloat8}) {
      CHECK_FALSE(has_fast_products(precision));
    }
  });
  emulate_precisions(before);
}

}  // namespace
}  // namespace ltrp::test
