// The row operators of kernels/delta.h but the layer norm's against plain float64, at every instruction set.
// Tolerances are those of float32 arithmetic (a few units in the last place of the largest value that enters)
// plus the rounding asked for, see rounding_of().
#include <cmath>

#include "test/delta_support.h"

namespace ltrp::test {
namespace {

TEST_CASE("gelu_difference is gelu(u + du) - gelu(u)") {
  at_every_level([] {
    uint64_t seed = 70;
    for (const int64_t width : kWidths) {
      for (const SetShape& shape : kSetShapes) {
        const VariantSet set = variant_set(shape.images, shape.variants, shape.tokens, shape.queries, ++seed);
        for (const double size : {1.0, 6.0, 1e4, 1e-20, 1e-40, 0.0}) {
          const at::Tensor u = normal({shape.images * shape.tokens, width}, seed + 1, size);
          const at::Tensor gelu_u = at::gelu(u);
          for (const RowRange& range : ranges_of(set.rows(), seed)) {
            const at::Tensor base =
                doubles(u).index_select(0, anchor_of_rows(set)).index_select(0, ids_of(range));
            for (const ProductKind kind :
                 {ProductKind::kFloat32, ProductKind::kBfloat16, ProductKind::kScaledBfloat16}) {
              const ProductRows du = product_rows(
                  normal({range.size(), width}, seed + 2, range.begin == 0 ? 0.1 * size : 2.0), kind, seed);
              const at::Tensor after = base + value_of(du);
              const at::Tensor want = at::gelu(after) - at::gelu(base);
              // erf is right to 3e-7 (vector.h), counting half times u + du; both GELUs and u + du are
              // rounded.
              const at::Tensor tolerance =
                  1.5e-7 * after.abs() + 4 * kUlp * (after.abs() + base.abs()) + 1e-44;
              for (const Precision precision : all_precisions()) {
                CAPTURE(width);
                CAPTURE(size);
                CAPTURE(static_cast<int>(kind));
                CAPTURE(static_cast<int>(precision));
                check_rows(gelu_difference(set, range, du, u, gelu_u, precision), want, tolerance, precision);
              }
            }
          }
        }
      }
    }
  });
}

TEST_CASE("gelu_difference over the whole range of the error function") {
  VariantSet set;
  set.variants = set.tokens = 1;
  set.image = at::zeros({1}, at::kInt);
  at_every_level([&set] {
    // gelu(0 + x) - gelu(0) is gelu(x).
    const at::Tensor x = at::cat(
        {at::linspace(-12, 12, 48001, at::kFloat), at::tensor({-1e30F, -1e4F, 1e4F, 1e30F, -0.0F, 1e-45F})});
    const at::Tensor zero = at::zeros({1, x.size(0)});
    const at::Tensor got =
        value_of(gelu_difference(set, {0, 1, {}}, {x.unsqueeze(0), {}}, zero, zero, Precision::kFloat32))[0];
    const at::Tensor error = (got - at::gelu(doubles(x))).abs();
    CHECK(error.le(2.5e-7 * doubles(x).abs() + 1e-44).all().item<bool>());
  });
}

TEST_CASE("round_rows rounds as the products want it") {
  at_every_level([] {
    uint64_t seed = 90;
    for (const int64_t width : kWidths) {
      for (const double size : {1.0, 1e4, 1e30, 1e-20, 1e-35, 1e-37, 1e-41, 0.0}) {
        CAPTURE(width);
        CAPTURE(size);
        const at::Tensor x = normal({5, width}, ++seed, size);
        x[3].zero_();
        x[4].fill_(-static_cast<float>(size));
        for (const RowRange& range : ranges_of(5, seed)) {
          const at::Tensor rows = x.index_select(0, ids_of(range));
          CHECK(round_rows(range, x, Precision::kFloat32).values.equal(rows));
          // The same as LibTorch's: to nearest, ties to even.
          CHECK(round_rows(range, x, Precision::kBfloat16).values.equal(rows.to(at::kBFloat16)));
          const RoundedRows bytes = round_rows(range, x, Precision::kInt8);
          check_rows(bytes, doubles(rows), at::zeros({1, 1}, at::kDouble), Precision::kInt8);
          // 0 is never used: the range is symmetric.
          CHECK(bytes.values.min().item<int64_t>() >= 1);
          const at::Tensor most = doubles(rows).abs().amax(1);
          const at::Tensor scale = at::where(most > 0, most / 127, at::ones_like(most));
          CHECK((doubles(bytes.scale) - scale).abs().le(2 * kUlp * scale + 1.4e-45).all().item<bool>());
          CHECK(bytes.values.to(at::kInt)
                    .sub(128)
                    .abs()
                    .amax(1)
                    .eq(127)
                    .logical_or(most.lt(1.1e-36))
                    .all()
                    .item<bool>());
        }
      }
    }
  });
}

TEST_CASE("bfloat16 rounding: ties go to the even neighbour") {
  at_every_level([] {
    std::vector<float> values;
    for (int step = 0; step < 40; ++step) {
      for (const double apart : {0.49, 0.5, 0.51}) {
        values.push_back(static_cast<float>(std::ldexp(128 + step + apart, step - 20)));
        values.push_back(-values.back());
      }
    }
    const at::Tensor x = at::tensor(values).view({1, -1});
    CHECK(round_rows({0, 1, {}}, x, Precision::kBfloat16).values.equal(x.to(at::kBFloat16)));
  });
}

TEST_CASE("add_rows adds a product to the rows of the range and leaves the others alone") {
  at_every_level([] {
    uint64_t seed = 110;
    for (const int64_t width : kWidths) {
      for (const RowRange& range : ranges_of(7, ++seed)) {
        for (const ProductKind kind :
             {ProductKind::kFloat32, ProductKind::kBfloat16, ProductKind::kScaledBfloat16}) {
          CAPTURE(width);
          const at::Tensor before = normal({7, width}, seed + 1);
          at::Tensor x = before.clone();
          const ProductRows update = product_rows(normal({range.size(), width}, seed + 2), kind, seed);
          add_rows(range, x, update);
          at::Tensor want = doubles(before);
          want.index_add_(0, ids_of(range), value_of(update));
          const at::Tensor allowed = 2 * kUlp * (want.abs() + doubles(before).abs());
          CHECK((doubles(x) - want).abs().le(allowed).all().item<bool>());
          const at::Tensor others = at::ones({7}, at::kBool).index_fill_(0, ids_of(range), 0);
          CHECK(x.index({others}).equal(before.index({others})));
        }
      }
    }
  });
}

TEST_CASE("row_sums: sums of magnitudes and of squares") {
  at_every_level([] {
    uint64_t seed = 130;
    for (const int64_t width : {1, 3, 15, 16, 17, 33, 100, 768}) {
      for (const double size : {1.0, 1e4, 1e-15, 0.0}) {
        for (const ProductKind kind :
             {ProductKind::kFloat32, ProductKind::kBfloat16, ProductKind::kScaledBfloat16}) {
          CAPTURE(width);
          CAPTURE(size);
          ++seed;
          const ProductRows x = product_rows(normal({6, width}, seed, size), kind, seed);
          for (const bool squared : {false, true}) {
            const at::Tensor want = (squared ? value_of(x).square() : value_of(x).abs()).sum(1);
            const at::Tensor got = row_sums(x, squared);
            CHECK((got.scalar_type() == at::kDouble));
            // Positive terms: the relative error is that of the additions of one lane.
            CHECK((got - want).abs().le(want * kUlp * 64).all().item<bool>());
          }
        }
      }
    }
  });
}

TEST_CASE("split_heads lays q, k and v out by head, in any type") {
  at_every_level([] {
    for (const auto& [tokens, heads, dim] :
         {std::array<int64_t, 3>{1, 1, 1}, {5, 3, 1}, {3, 2, 5}, {4, 2, 16}, {2, 3, 33}}) {
      const at::Tensor rows = normal({2 * tokens, 3 * heads * dim}, 150);
      for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
        const at::Tensor x = rows.to(type);
        const at::Tensor want = x.view({2, tokens, 3, heads, dim}).permute({0, 3, 2, 1, 4});
        CHECK(split_heads(x, tokens, heads).equal(want));
      }
    }
  });
}

TEST_CASE("split_heads fills in zeros for the tokens that a packed product lacks") {
  at_every_level([] {
    constexpr int64_t kTokens = 5, kHeads = 2, kDim = 3;
    const at::Tensor packed_row = at::tensor({2, -1, 0, -1, -1, -1, 1, 3, -1, -1}, at::kInt);
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
      const at::Tensor x = normal({4, 3 * kHeads * kDim}, 151).to(type);
      at::Tensor full = at::zeros({10, 3 * kHeads * kDim}, type);
      for (int64_t row = 0; row < 10; ++row) {
        const auto packed = packed_row[row].item<int64_t>();
        if (packed >= 0) full[row].copy_(x[packed]);
      }
      CHECK(split_heads(x, kTokens, kHeads, packed_row).equal(split_heads(full, kTokens, kHeads)));
    }
  });
}

TEST_CASE("products of another size or type, and rows that are no float32, are refused") {
  const VariantSet set = variant_set(1, 2, 3, 0, 160);
  const at::Tensor d = normal({6, 8}, 161), weight = normal({8}, 162);
  LayerNormAnchor anchor;
  layer_norm_rows(normal({3, 8}, 163), weight, weight, 1e-6, &anchor);
  const RowRange all{0, 6, {}};
  const ProductRows few{normal({5, 8}, 164), {}}, doubled{at::zeros({6, 8}, at::kDouble), {}};
  const ProductRows unscaled{normal({6, 8}, 165), normal({5}, 166)};
  for (const ProductRows& wrong : {few, doubled, unscaled}) {
    CHECK_THROWS_AS(layer_norm_difference(set, all, d, wrong, anchor, weight, Precision::kInt8), c10::Error);
    CHECK_THROWS_AS(gelu_difference(set, all, wrong, d, d, Precision::kInt8), c10::Error);
    CHECK_THROWS_AS(add_rows(all, d, wrong), c10::Error);
  }
  CHECK_THROWS_AS(gelu_difference(set, all, {}, d, d, Precision::kInt8), c10::Error);
  CHECK_THROWS_AS(round_rows(all, d.to(at::kDouble), Precision::kInt8), c10::Error);
  CHECK_THROWS_AS(round_rows(all, normal({8, 6}, 167).t(), Precision::kInt8), c10::Error);
  CHECK_THROWS_AS(round_rows({0, 1, {}}, at::zeros({1, (1 << 17) + 1}), Precision::kInt8), c10::Error);
  CHECK_THROWS_AS(removal_difference(set, normal({1, 2, 3, 3, 4}, 168), {}, normal({3, 8}, 169)), c10::Error);
}

}  // namespace
}  // namespace ltrp::test
