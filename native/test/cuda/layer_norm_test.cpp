// The CUDA layer norms, executed in the emulation, against plain float64. Tolerances are those of float32
// arithmetic plus the rounding asked for.
#include "test/cuda/kernel_support.h"

namespace ltrp::test {
namespace {

constexpr double kEps = 1e-6;
// Units in the last place that a row's sums may lose: they are added up by 32 lanes or more.
constexpr double kSteps = 16;

struct Norm {
  at::Tensor mean, deviation, normed;  // float64; [R, 1], [R, 1], [R, W]
};

Norm norm_of(const at::Tensor& x) {
  Norm norm;
  norm.mean = x.mean(1, /*keepdim=*/true);
  norm.deviation = ((x - norm.mean).square().mean(1, /*keepdim=*/true) + kEps).sqrt();
  norm.normed = (x - norm.mean) / norm.deviation;
  return norm;
}

// LN(s + d) - LN(s) without the bias, and the largest term of each row that it is summed from.
struct NormChange {
  at::Tensor exact, largest_term;
};

NormChange norm_change(const at::Tensor& s, const at::Tensor& d, const at::Tensor& weight) {
  const Norm before = norm_of(s), after = norm_of(s + d);
  const auto most = [](const at::Tensor& x) { return x.abs().amax(1, /*keepdim=*/true); };
  const at::Tensor moved = most(d) / after.deviation;
  // Taken in float64 the difference itself cancels where d is very small. The derivative is exact there.
  const at::Tensor centred = d - d.mean(1, /*keepdim=*/true);
  const at::Tensor derivative =
      (centred - before.normed * (before.normed * centred).mean(1, /*keepdim=*/true)) / before.deviation;
  NormChange change;
  change.exact = at::where(moved < 1e-8, derivative, after.normed - before.normed) * weight;
  const at::Tensor stretch = (before.deviation / after.deviation - 1).abs();
  change.largest_term =
      weight.abs().max() * (moved + most(before.normed) * stretch + moved.square().clamp_max(1) * stretch);
  return change;
}

struct Difference {
  VariantSet set;
  RowRange range;
  at::Tensor d, normed, deviation, weight;
  ProductOf update;  // undefined values: none
};

args::LayerNormDifference arguments_of(Difference& given) {
  args::LayerNormDifference a;
  a.set = argument_of(given.set);
  a.width = given.weight.size(0);
  a.rows = argument_of(given.range);
  a.d = floats_in(given.d);
  if (given.update.values.defined()) a.update = given.update.argument();
  a.normed = floats_of(given.normed);
  a.deviation = floats_of(given.deviation);
  a.weight = floats_of(given.weight);
  return a;
}

Rows run(Difference& given, Encoding encoding) {
  args::LayerNormDifference a = arguments_of(given);
  Rows rows(given.range.size(), a.width, encoding);
  a.out = rows.out();
  cuda::launch_layer_norm_difference(a, given.range.size(), nullptr);
  return rows;
}

// One image, one token per row: row r of s changes by row r of d.
Difference difference_of(const at::Tensor& s, const at::Tensor& d, const at::Tensor& weight) {
  Difference given;
  given.set.variants = 1;
  given.set.tokens = s.size(0);
  given.set.image = at::zeros({1}, at::kInt);
  given.range = {0, s.size(0), {}};
  given.d = d.clone();
  LayerNormAnchor anchor;
  layer_norm_rows(s, weight, at::zeros_like(weight), kEps, &anchor);
  given.normed = anchor.normed;
  given.deviation = anchor.deviation;
  given.weight = weight;
  return given;
}

TEST_CASE("CUDA layer_norm_difference adds the update and is LN(s + d) - LN(s), in every encoding") {
  uint64_t seed = 10;
  for (const int64_t width : {3, 100, 768}) {
    for (const SetShape& shape : kSetShapes) {
      Difference given;
      given.set = variant_set(shape.images, shape.variants, shape.tokens, shape.queries, ++seed);
      given.weight = normal({width}, seed + 1);
      const at::Tensor s = normal({shape.images * shape.tokens, width}, seed + 3, 2, 1);
      LayerNormAnchor anchor;
      layer_norm_rows(s, given.weight, given.weight, kEps, &anchor);
      given.normed = anchor.normed;
      given.deviation = anchor.deviation;
      for (const RowRange& range : ranges_of(given.set.rows(), seed)) {
        if (range.size() == 0) continue;
        given.range = range;
        const at::Tensor ids = ids_of(range), before = normal({given.set.rows(), width}, seed + 4, 0.1);
        for (size_t kind = 0; kind <= all_products().size(); ++kind) {
          given.update = {};
          if (kind < all_products().size()) {
            given.update =
                product_of_kind(normal({range.size(), width}, seed + 5, 0.1), all_products()[kind], seed);
          }
          // Every encoding meets every width and kind of update, one of them each time.
          const Encoding encoding = all_encodings()[(kind + static_cast<size_t>(++seed)) % 5];
          CAPTURE(width);
          CAPTURE(kind);
          CAPTURE(static_cast<int>(encoding));
          given.d = before.clone();
          const Rows got = run(given, encoding);
          at::Tensor expected = doubles(before);
          if (given.update.values.defined()) expected.index_add_(0, ids, given.update.value());
          CHECK(((doubles(given.d) - expected).abs() <=
                 4 * kUlp * (doubles(before).abs() + expected.abs() + 0.1))
                    .all()
                    .item<bool>());
          const at::Tensor base = s.index_select(0, anchor_of_rows(given.set)).index_select(0, ids);
          const NormChange change =
              norm_change(doubles(base), doubles(given.d).index_select(0, ids), doubles(given.weight));
          check_rounded(got, change.exact, kSteps * kUlp * change.largest_term);
        }
      }
    }
  }
}

TEST_CASE("CUDA layer_norm_difference at every width, also off 16-byte boundaries") {
  for (const int64_t width : row_widths()) {
    for (const bool shifted : {false, true}) {
      const at::Tensor s = normal({5, width}, 20, 2, 0.5), weight = normal({width}, 21);
      const at::Tensor d = normal({5, width}, 22, 0.01, 0.003);
      Difference given = difference_of(s, d, weight);
      if (shifted) given.normed = misaligned(given.normed);
      const NormChange change = norm_change(doubles(s), doubles(d), doubles(weight));
      for (const Encoding encoding : all_encodings()) {
        CAPTURE(width);
        CAPTURE(shifted);
        CAPTURE(static_cast<int>(encoding));
        check_rounded(run(given, encoding), change.exact, kSteps * kUlp * change.largest_term);
      }
      args::LayerNormDifference a = arguments_of(given);
      at::Tensor squares = unwritten({5}, at::kFloat);
      a.squares = floats_in(squares);
      cuda::launch_layer_norm_difference(a, 5, nullptr);
      const at::Tensor want = change.exact.square().sum(1);
      const at::Tensor allowed = 2 * kSteps * kUlp *
                                     (change.exact.square().sum(1).sqrt() * change.largest_term.squeeze(1) *
                                      std::sqrt(static_cast<double>(width))) +
                                 1e-40;
      CHECK((doubles(squares) - want).abs().le(allowed).all().item<bool>());
    }
  }
}

TEST_CASE("CUDA layer_norm_difference: small differences come out as exactly as large ones") {
  for (const int64_t width : {15, 100, 512, 1500}) {
    const at::Tensor s = normal({7, width}, 41, 2, 0.5), weight = normal({width}, 42, 0.2, 1);
    for (const double size : {1.0, 1e-3, 1e-6, 1e-9, 1e-20, 1e-30}) {
      CAPTURE(width);
      CAPTURE(size);
      const at::Tensor d = normal({7, width}, 43, size, 0.3 * size);
      Difference given = difference_of(s, d, weight);
      const at::Tensor want = norm_change(doubles(s), doubles(d), doubles(weight)).exact;
      const at::Tensor error = (run(given, Encoding::kFloat32).value() - want).abs();
      CHECK((error.amax(1) / want.abs().amax(1)).max().item<double>() < 2e-6);
      for (const Encoding encoding : all_encodings()) {
        check_rounded(run(given, encoding), want, 2e-6 * want.abs().amax(1, true));
      }
    }
  }
}

TEST_CASE("CUDA layer_norm_difference on zeros, denormals and very large values") {
  for (const int64_t width : {1, 17, 36}) {
    for (const double size : {0.0, 1.0, 1e4, 1e-20, 1e-40}) {
      for (const double change : {0.0, 1.0, 1e4, 1e-20, 1e-40}) {
        CAPTURE(width);
        CAPTURE(size);
        CAPTURE(change);
        const at::Tensor s = normal({4, width}, 51, size), d = normal({4, width}, 52, change);
        s[1].zero_();
        d[2].zero_();
        const at::Tensor weight = normal({width}, 53);
        Difference given = difference_of(s, d, weight);
        const NormChange want = norm_change(doubles(s), doubles(d), doubles(weight));
        for (const Encoding encoding : all_encodings()) {
          CAPTURE(static_cast<int>(encoding));
          const Rows got = run(given, encoding);
          // Denormal numbers have absolute precision: 1.4e-45, here divided by a deviation of 1e-3.
          check_rounded(got, want.exact, kSteps * kUlp * want.largest_term + 1e-40);
          CHECK(got.value()[2].eq(0).all().item<bool>());
          if (got.scale.defined()) CHECK(got.scale[2].item<float>() == 1.0F);
        }
      }
    }
  }
}

TEST_CASE("CUDA layer_norm_difference where the variance all but vanishes stays finite") {
  const at::Tensor s = normal({5, 100}, 61, 3), weight = at::ones({100});
  for (const double left : {0.5, 0.1, 0.01}) {
    CAPTURE(left);
    const at::Tensor d = (s - s.mean(1, true)) * (left - 1);
    Difference given = difference_of(s, d, weight);
    const at::Tensor want = norm_change(doubles(s), doubles(d), doubles(weight)).exact;
    CHECK((run(given, Encoding::kFloat32).value() - want).abs().max().item<double>() < 2e-6 / (left * left));
  }
  Difference given = difference_of(s, s.mean(1, true) - s, weight);
  const at::Tensor gone = run(given, Encoding::kFloat32).value();
  CHECK((gone + norm_of(doubles(s)).normed).abs().max().item<double>() < 0.01);
}

TEST_CASE("CUDA layer_norm_difference errs at most twice as much as LibTorch, and agrees with the CPU's") {
  for (const double size : {1.0, 1e-2}) {
    const int64_t width = 384;
    const at::Tensor s = normal({24, width}, 71, 2, 0.5), d = normal({24, width}, 72, size);
    const at::Tensor weight = normal({width}, 73, 0.2, 1), zero = at::zeros({width});
    Difference given = difference_of(s, d, weight);
    const at::Tensor exact = norm_change(doubles(s), doubles(d), doubles(weight)).exact;
    const auto norm = [&](const at::Tensor& x) { return at::layer_norm(x, {width}, weight, zero, kEps); };
    const at::Tensor plain = norm(s + d) - norm(s);
    for (const Encoding encoding : all_encodings()) {
      CAPTURE(size);
      CAPTURE(static_cast<int>(encoding));
      check_twice_libtorch(run(given, encoding).value(), rounded_by_libtorch(plain, encoding), exact);
    }
    const LayerNormAnchor anchor{given.normed, given.deviation};
    const auto twin = [&](Precision precision) {
      return value_of(layer_norm_difference(given.set, given.range, given.d, {}, anchor, weight, precision));
    };
    const at::Tensor most = exact.abs().amax(1, true);
    CHECK((run(given, Encoding::kFloat32).value() - twin(Precision::kFloat32))
              .abs()
              .le(2e-6 * most)
              .all()
              .item<bool>());
    CHECK((run(given, Encoding::kBfloat16).value() - twin(Precision::kBfloat16))
              .abs()
              .le(exact.abs() / 120 + 2e-6 * most)
              .all()
              .item<bool>());
    CHECK((run(given, Encoding::kInt8).value() - twin(Precision::kInt8))
              .abs()
              .le(most * (1.001 / 127))
              .all()
              .item<bool>());
  }
}

TEST_CASE("CUDA layer_norm_rows is the layer norm, and keeps what differences need") {
  for (const int64_t width : row_widths()) {
    for (const double scale : {1.0, 1e4, 1e-20, 1e-41, 0.0}) {
      CAPTURE(width);
      CAPTURE(scale);
      at::Tensor x = normal({5, width}, 1, scale, 30 * scale);
      x[1].zero_();
      x[3].fill_(static_cast<float>(scale));
      const at::Tensor weight = normal({width}, 2), bias = normal({width}, 3);
      at::Tensor out = unwritten({5, width}, at::kFloat), normed = out.clone(),
                 deviation = unwritten({5}, at::kFloat), alone = out.clone();
      args::LayerNormRows a;
      a.width = width;
      a.eps = kEps;
      a.x = floats_of(x);
      a.weight = floats_of(weight);
      a.bias = floats_of(bias);
      a.out = floats_in(alone);
      cuda::launch_layer_norm_rows(a, 5, nullptr);
      a.out = floats_in(out);
      a.normed = floats_in(normed);
      a.deviation = floats_in(deviation);
      cuda::launch_layer_norm_rows(a, 5, nullptr);
      CHECK(out.equal(alone));
      const at::Tensor rows = doubles(x);
      const Norm norm = norm_of(rows);
      // The mean is right to a unit in its last place, which counts by the deviation.
      const at::Tensor tolerance =
          kSteps * kUlp * (norm.normed.abs() + rows.abs().amax(1, true) / norm.deviation + 1e-30);
      const auto within = [](const at::Tensor& got, const at::Tensor& want, const at::Tensor& allowed) {
        return ((doubles(got) - want).abs() <= allowed).all().item<bool>();
      };
      CHECK(within(normed, norm.normed, tolerance));
      CHECK(within(deviation, norm.deviation.squeeze(1),
                   kSteps * kUlp * (norm.deviation.squeeze(1) + rows.abs().amax(1))));
      CHECK(within(out, norm.normed * doubles(weight) + doubles(bias),
                   tolerance * doubles(weight).abs() +
                       4 * kUlp * (doubles(bias).abs() + (norm.normed * doubles(weight)).abs())));
      if (width <= 100) {  // the CPU's sums have fewer lanes: wider rows lose more there
        LayerNormAnchor anchor;
        const at::Tensor twin = layer_norm_rows(x, weight, bias, kEps, &anchor);
        CHECK(within(normed, doubles(anchor.normed), 2 * tolerance));
        CHECK(within(out, doubles(twin),
                     2 * tolerance * doubles(weight).abs() +
                         4 * kUlp * (doubles(bias).abs() + (norm.normed * doubles(weight)).abs())));
      }
      if (width > 1 && scale == 1.0) {
        const at::Tensor some = at::tensor({0, 2, 4});
        check_twice_libtorch(doubles(out).index_select(0, some),
                             doubles(at::layer_norm(x, {width}, weight, bias, kEps)).index_select(0, some),
                             (norm.normed * doubles(weight) + doubles(bias)).index_select(0, some));
      }
    }
  }
}

TEST_CASE("CUDA add_layer_norm adds a product with its bias and normalises, in every encoding") {
  uint64_t seed = 400;
  for (const int64_t width : row_widths()) {
    for (const double scale : {1.0, 1e4, 1e-3, 0.0}) {
      for (size_t kind = 0; kind <= all_products().size(); ++kind) {
        const bool with_update = kind < all_products().size();
        const Encoding encoding = all_encodings()[(kind + static_cast<size_t>(++seed)) % 5];
        CAPTURE(width);
        CAPTURE(scale);
        CAPTURE(kind);
        CAPTURE(static_cast<int>(encoding));
        at::Tensor x = normal({5, width}, 1, scale, 3 * scale);
        const at::Tensor before = doubles(x), weight = normal({width}, 2), bias = normal({width}, 3),
                         update_bias = normal({width}, 4, scale);
        args::AddLayerNorm a;
        a.width = width;
        a.eps = kEps;
        a.x = floats_in(x);
        a.weight = floats_of(weight);
        a.bias = floats_of(bias);
        ProductOf update;
        at::Tensor added = at::zeros_like(before);
        if (with_update) {
          update = product_of_kind(normal({5, width}, 5, scale), all_products()[kind], 6);
          a.update = update.argument();
          a.update_bias = floats_of(update_bias);
          added = update.value() + doubles(update_bias);
        }
        Rows got(5, width, encoding);
        a.out = got.out();
        cuda::launch_add_layer_norm(a, 5, nullptr);
        const at::Tensor sum = before + added;
        const at::Tensor largest = before.abs().amax(1, true) + added.abs().amax(1, true);
        CHECK(((doubles(x) - sum).abs() <= 4 * kUlp * largest).all().item<bool>());
        const Norm norm = norm_of(sum);
        const at::Tensor tolerance =
            kSteps * kUlp * (norm.normed.abs() + largest / norm.deviation) * doubles(weight).abs() +
            4 * kUlp * (doubles(bias).abs() + (norm.normed * doubles(weight)).abs());
        check_rounded(got, norm.normed * doubles(weight) + doubles(bias), tolerance);
      }
    }
  }
}

TEST_CASE("CUDA layer norms refuse encodings that only the CPU has") {
  const at::Tensor s = normal({2, 8}, 80);
  Difference given = difference_of(s, s, at::ones({8}));
  args::LayerNormDifference a = arguments_of(given);
  Rows rows(2, 8, Encoding::kInt8);
  a.out = rows.out();
  a.out.encoding = Encoding::kUint8;
  CHECK_THROWS_AS(cuda::launch_layer_norm_difference(a, 2, nullptr), std::runtime_error);
}

}  // namespace
}  // namespace ltrp::test
