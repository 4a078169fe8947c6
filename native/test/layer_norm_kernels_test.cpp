// The layer norm's operators of kernels/delta.h against plain float64, at every instruction set. Tolerances
// are those of float32 arithmetic (a few units in the last place of the largest value that enters) plus the
// rounding asked for, see rounding_of().
#include <cmath>

#include "test/delta_support.h"

namespace ltrp::test {
namespace {

constexpr double kEps = 1e-6;

// Units in the last place that a row's sums may lose: they are added up in a few dozen lanes.
constexpr double kSteps = 16;

struct Norm {
  at::Tensor mean, deviation, normed;  // float64; [R, 1], [R, 1], [R, W]
};

Norm norm_of(const at::Tensor& x, double eps) {
  Norm norm;
  norm.mean = x.mean(1, /*keepdim=*/true);
  norm.deviation = ((x - norm.mean).square().mean(1, /*keepdim=*/true) + eps).sqrt();
  norm.normed = (x - norm.mean) / norm.deviation;
  return norm;
}

// LN(s + d) - LN(s) without the bias, and the largest term of each row that it is summed from.
struct NormChange {
  at::Tensor exact, largest_term;
};

NormChange norm_change(const at::Tensor& s, const at::Tensor& d, const at::Tensor& weight) {
  const Norm before = norm_of(s, kEps), after = norm_of(s + d, kEps);
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

TEST_CASE("layer_norm_rows is the layer norm, and keeps what differences need") {
  at_every_level([] {
    for (const int64_t width : kWidths) {
      for (const double scale : {1.0, 1e4, 1e-3, 1e-20, 1e-35, 1e-41, 0.0}) {
        for (const double mean : {0.0, 30.0}) {
          CAPTURE(width);
          CAPTURE(scale);
          CAPTURE(mean);
          at::Tensor x = normal({2, 3, width}, 1, scale, mean * scale);
          x[0][1].zero_();
          x[1][0].fill_(static_cast<float>(scale));
          const at::Tensor weight = normal({width}, 2), bias = normal({width}, 3);
          LayerNormAnchor anchor;
          const at::Tensor got = layer_norm_rows(x, weight, bias, kEps, &anchor);
          CHECK(got.equal(layer_norm_rows(x, weight, bias, kEps)));
          REQUIRE(got.sizes() == x.sizes());
          const at::Tensor rows = doubles(x).view({6, width});
          const Norm norm = norm_of(rows, kEps);
          // The mean is right to a unit in its last place, which counts by the deviation.
          const at::Tensor tolerance =
              kSteps * kUlp * (norm.normed.abs() + rows.abs().amax(1, true) / norm.deviation + 1e-30);
          const auto within = [&](const at::Tensor& a, const at::Tensor& b, const at::Tensor& allowed) {
            return ((doubles(a) - b).abs() <= allowed).all().item<bool>();
          };
          CHECK(within(anchor.normed, norm.normed, tolerance));
          CHECK(within(anchor.deviation, norm.deviation.squeeze(1),
                       kSteps * kUlp * (norm.deviation.squeeze(1) + rows.abs().amax(1))));
          CHECK(within(got.view({6, width}), norm.normed * doubles(weight) + doubles(bias),
                       tolerance * doubles(weight).abs() +
                           4 * kUlp * (doubles(bias).abs() + (norm.normed * doubles(weight)).abs())));
        }
      }
    }
  });
}

TEST_CASE("layer_norm_difference adds the update and is LN(s + d) - LN(s)") {
  at_every_level([] {
    uint64_t seed = 10;
    for (const int64_t width : kWidths) {
      for (const SetShape& shape : kSetShapes) {
        const VariantSet set = variant_set(shape.images, shape.variants, shape.tokens, shape.queries, ++seed);
        const int64_t anchors = shape.images * shape.tokens;
        const at::Tensor weight = normal({width}, seed + 1), bias = normal({width}, seed + 2);
        const at::Tensor s = normal({anchors, width}, seed + 3, 2, 1);
        LayerNormAnchor anchor;
        layer_norm_rows(s, weight, bias, kEps, &anchor);
        for (const RowRange& range : ranges_of(set.rows(), seed)) {
          const at::Tensor ids = ids_of(range);
          for (const Precision precision : all_precisions()) {
            for (const int kind : {-1, 0, 1, 2}) {  // no update, or one of the ProductKinds
              CAPTURE(width);
              CAPTURE(static_cast<int>(precision));
              CAPTURE(kind);
              const at::Tensor before = normal({set.rows(), width}, seed + 4, 0.1);
              at::Tensor d = before.clone();
              ProductRows update;
              if (kind >= 0) {
                update = product_rows(normal({range.size(), width}, seed + 5, 0.1),
                                      static_cast<ProductKind>(kind), seed);
              }
              const RoundedRows got = layer_norm_difference(set, range, d, update, anchor, weight, precision);
              at::Tensor expected = doubles(before);
              if (kind >= 0) expected.index_add_(0, ids, value_of(update));
              // One addition: one rounding.
              CHECK(((doubles(d) - expected).abs() <= 2 * kUlp * (doubles(before).abs() + expected.abs()))
                        .all()
                        .item<bool>());
              const NormChange change =
                  norm_change(doubles(s).index_select(0, anchor_of_rows(set)).index_select(0, ids),
                              doubles(d).index_select(0, ids), doubles(weight));
              check_rows(got, change.exact, kSteps * kUlp * change.largest_term, precision);
            }
          }
        }
      }
    }
  });
}

// One image, one token per row: row r of s changes by row r of d.
RoundedRows difference_of(const at::Tensor& s, const at::Tensor& d, const at::Tensor& weight,
                          Precision precision) {
  VariantSet set;
  set.variants = 1;
  set.tokens = s.size(0);
  set.image = at::zeros({1}, at::kInt);
  LayerNormAnchor anchor;
  layer_norm_rows(s, weight, at::zeros_like(weight), kEps, &anchor);
  return layer_norm_difference(set, {0, set.rows(), {}}, d.clone(), {}, anchor, weight, precision);
}

TEST_CASE("layer_norm_difference_squares are the squared norms of the same rows, and d is updated too") {
  at_every_level([] {
    uint64_t seed = 30;
    for (const int64_t width : kWidths) {
      const VariantSet set = variant_set(2, 3, 5, 3, ++seed);
      LayerNormAnchor anchor;
      const at::Tensor weight = normal({width}, seed + 1);
      layer_norm_rows(normal({10, width}, seed + 2, 2, 1), weight, weight, kEps, &anchor);
      for (const RowRange& range : ranges_of(set.rows(), seed)) {
        CAPTURE(width);
        const at::Tensor before = normal({set.rows(), width}, seed + 3, 0.1);
        at::Tensor d = before.clone(), same = before.clone();
        const ProductRows update =
            product_rows(normal({range.size(), width}, seed + 4, 0.1), ProductKind::kScaledBfloat16, seed);
        const at::Tensor rows =
            value_of(layer_norm_difference(set, range, same, update, anchor, weight, Precision::kFloat32));
        const at::Tensor got = layer_norm_difference_squares(set, range, d, update, anchor, weight);
        CHECK(d.equal(same));
        const at::Tensor want = rows.square().sum(1);
        CHECK((doubles(got) - want).abs().le(kSteps * kUlp * want + 1e-44).all().item<bool>());
      }
    }
  });
}

TEST_CASE("layer_norm_difference has no cancellation: small differences come out as exactly as large ones") {
  // In the plain form LN(s + d) - LN(s) in float32, a d of 1e-6 would be left with one digit.
  at_every_level([] {
    for (const int64_t width : {15, 100, 512}) {
      const at::Tensor s = normal({7, width}, 41, 2, 0.5), weight = normal({width}, 42, 0.2, 1);
      for (const double size : {1.0, 1e-3, 1e-6, 1e-9, 1e-20, 1e-30}) {
        CAPTURE(width);
        CAPTURE(size);
        const at::Tensor d = normal({7, width}, 43, size, 0.3 * size);
        const at::Tensor want = norm_change(doubles(s), doubles(d), doubles(weight)).exact;
        const at::Tensor error = (value_of(difference_of(s, d, weight, Precision::kFloat32)) - want).abs();
        CHECK((error.amax(1) / want.abs().amax(1)).max().item<double>() < 2e-6);
        for (const Precision precision : all_precisions()) {
          check_rows(difference_of(s, d, weight, precision), want, 2e-6 * want.abs().amax(1, true),
                     precision);
        }
      }
    }
  });
}

TEST_CASE("layer_norm_difference on zeros, denormals and very large values") {
  at_every_level([] {
    for (const int64_t width : {1, 17, 33}) {
      for (const double size : {0.0, 1.0, 1e4, 1e-20, 1e-35, 1e-40}) {
        for (const double change : {0.0, 1.0, 1e4, 1e-20, 1e-35, 1e-40}) {
          CAPTURE(width);
          CAPTURE(size);
          CAPTURE(change);
          const at::Tensor s = normal({4, width}, 51, size), d = normal({4, width}, 52, change);
          s[1].zero_();
          d[2].zero_();
          const at::Tensor weight = normal({width}, 53);
          const NormChange want = norm_change(doubles(s), doubles(d), doubles(weight));
          for (const Precision precision : all_precisions()) {
            const RoundedRows got = difference_of(s, d, weight, precision);
            // Denormal numbers have absolute precision: 1.4e-45, here divided by a deviation of 1e-3.
            check_rows(got, want.exact, kSteps * kUlp * want.largest_term + 1e-40, precision);
            CHECK(value_of(got)[2].eq(0).all().item<bool>());
          }
        }
      }
    }
  });
}

TEST_CASE("layer_norm_difference where the variance all but vanishes") {
  // s + d = mean + (1 - fraction) (s - mean): its deviation is what float32 sums leave of it. The relative
  // error of the new variance is some 1e-7 / left^2, half of that in the result.
  at_every_level([] {
    const int64_t width = 100;
    const at::Tensor s = normal({5, width}, 61, 3), weight = at::ones({width});
    for (const double left : {0.5, 0.1, 0.03, 0.01}) {
      CAPTURE(left);
      const at::Tensor d = (s - s.mean(1, true)) * (left - 1);
      const at::Tensor want = norm_change(doubles(s), doubles(d), doubles(weight)).exact;
      const at::Tensor got = value_of(difference_of(s, d, weight, Precision::kFloat32));
      CHECK((got - want).abs().max().item<double>() < 2e-6 / (left * left));
    }
    // Nothing left: what remains of s + d is rounding noise, but LN(s + d) stays finite and small beside the
    // values that it is the difference of.
    const at::Tensor gone = value_of(difference_of(s, s.mean(1, true) - s, weight, Precision::kFloat32));
    CHECK((gone + norm_of(doubles(s), kEps).normed).abs().max().item<double>() < 0.01);
  });
}

}  // namespace
}  // namespace ltrp::test
