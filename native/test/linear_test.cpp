// Matrix products with packed weights (kernels/linear.h) against float64 and, for int8, against exact integer
// arithmetic.
#include "kernels/linear.h"

#include <array>

#include "test/delta_support.h"

namespace ltrp::test {
namespace {

bool skipped(Precision precision) {
  if (has_fast_products(precision)) return false;
  const std::string name = precision == Precision::kInt8 ? "int8" : "bfloat16";
  MESSAGE("skipped: this processor has no instructions for " << name);
  return true;
}

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

// Sums of K products in float32, in an order of the library's own.
at::Tensor sum_tolerance(const at::Tensor& x, const at::Tensor& w) {
  return kUlp * (8 + static_cast<double>(x.size(1)) / 4) * x.abs().matmul(w.abs().t());
}

TEST_CASE("RoundedLinear in float32 and bfloat16: x W^T of the rounded operands") {
  at_every_level([] {
    for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16}) {
      if (skipped(precision)) continue;
      uint64_t seed = 400;
      for (const auto& [rows, inputs, outputs] : kShapes) {
        for (const double size : {1.0, 1e4, 1e-20}) {
          CAPTURE(rows);
          CAPTURE(inputs);
          CAPTURE(outputs);
          CAPTURE(size);
          const at::Tensor weight = normal({outputs, inputs}, ++seed, 0.1);
          const at::Tensor x = normal({rows, inputs}, seed + 1, size);
          const RoundedLinear linear(weight, precision);
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
      if (skipped(precision)) continue;
      const ProductRows got = RoundedLinear(weight, precision)(rounded(at::empty({0, 128}), precision));
      CHECK(got.values.sizes() == at::IntArrayRef{0, 70});
    }
    const at::Tensor packed = packed_weight(weight);
    if (!packed.defined()) return;
    CHECK(packed_linear(at::empty({0, 128}), packed, at::zeros({70}), /*gelu=*/false).sizes() ==
          at::IntArrayRef{0, 70});
  });
}

TEST_CASE("RoundedLinear in int8: one scale per output and per row, exact sums, one bfloat16 rounding") {
  at_every_level([] {
    if (skipped(Precision::kInt8)) return;
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
        const RoundedLinear linear(weight, Precision::kInt8);
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
    if (skipped(Precision::kInt8)) return;
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
        return value_of(RoundedLinear(w.to(at::kFloat), Precision::kInt8)(rows));
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
  for (const Precision precision : {Precision::kFloat32, Precision::kBfloat16, Precision::kInt8}) {
    if (skipped(precision)) continue;
    set_simd_level(available_simd_levels().back());
    const RoundedLinear linear(weight, precision);
    const at::Tensor packed = packed_weight(weight);
    const at::Tensor product = value_of(linear(rounded(x, precision)));
    const at::Tensor sum = packed_linear(x, packed, bias);
    set_simd_level(SimdLevel::kPlain);
    CHECK(value_of(linear(rounded(x, precision))).equal(product));
    CHECK(packed_linear(x, packed, bias).equal(sum));
  }
}

}  // namespace
}  // namespace ltrp::test
