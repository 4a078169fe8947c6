// The attention operators of kernels/delta.h against plain float64, at every instruction set. They compute in
// float32: a logit is right to a few units in its last place, which the exponential makes relative errors of
// the probabilities, so that outputs are right to that times the largest value.
#include <cmath>

#include "test/delta_support.h"

namespace ltrp::test {
namespace {

struct Shape {
  int64_t images, variants, tokens, heads, dim, queries;
};

const std::vector<Shape> kShapes{{1, 1, 1, 1, 1, 0},   {1, 1, 2, 1, 5, 1},    {1, 2, 3, 2, 16, 0},
                                 {3, 5, 7, 3, 20, 0},  {2, 4, 15, 2, 32, 4},  {1, 3, 16, 2, 5, 0},
                                 {2, 3, 17, 1, 64, 7}, {1, 2, 33, 2, 80, 13}, {2, 2, 49, 3, 1, 0},
                                 {1, 2, 65, 1, 33, 1}, {1, 1, 130, 2, 16, 5}};

// q, k and v side by side [n, T, 3E], as the models project them -> by head, without split_heads().
at::Tensor by_head(const at::Tensor& qkv, int64_t heads) {
  const int64_t n = qkv.size(0), tokens = qkv.size(1), dim = qkv.size(2) / (3 * heads);
  return qkv.view({n, tokens, 3, heads, dim}).permute({0, 3, 2, 1, 4}).contiguous();
}

// float64 attention of [n, heads, 3, T, D] without key removed[n] (-1: with all) -> [n, T, heads * D]; the
// removed token's own output is zero.
at::Tensor attention(const at::Tensor& qkv, const at::Tensor& removed) {
  const int64_t n = qkv.size(0), heads = qkv.size(1), tokens = qkv.size(3), dim = qkv.size(4);
  at::Tensor logits =
      qkv.select(2, 0).matmul(qkv.select(2, 1).transpose(-1, -2)) / std::sqrt(static_cast<double>(dim));
  const at::Tensor gone = at::arange(tokens, at::kLong).eq(removed.to(at::kLong).unsqueeze(1));  // [n, T]
  logits = logits.masked_fill(gone.view({n, 1, 1, tokens}), -HUGE_VAL);
  const at::Tensor out = logits.softmax(-1).nan_to_num(0).matmul(qkv.select(2, 2));
  return out.transpose(1, 2).reshape({n, tokens, heads * dim}).masked_fill(gone.unsqueeze(2), 0);
}

// Rows of the set out of [m, T, E].
at::Tensor set_rows(const VariantSet& set, const at::Tensor& x) {
  const at::Tensor tokens = tokens_of_rows(set);
  return x.gather(1, tokens.unsqueeze(2).expand({-1, -1, x.size(2)})).reshape({-1, x.size(2)});
}

// What float32 may do to outputs of `values`: the relative error of a probability is a few units in the last
// place of its logit (a sum of `dim` products) and of the sum of probabilities.
double tolerance_of(const at::Tensor& qkv) {
  const double dim = static_cast<double>(qkv.size(4));
  const double logit =
      (doubles(qkv).select(2, 0).norm(2, -1).max() * doubles(qkv).select(2, 1).norm(2, -1).max())
          .item<double>() /
      std::sqrt(dim);
  return kUlp * (16 + 4 * logit) * doubles(qkv).select(2, 2).abs().max().item<double>() + 1e-43;
}

double worst(const at::Tensor& got, const at::Tensor& want) {
  REQUIRE(got.sizes() == want.sizes());
  return (doubles(got) - want).abs().nan_to_num(1e300).max().item<double>();
}

TEST_CASE("attention_rows is softmax(q k^T / sqrt(d)) v, for all tokens and for some") {
  at_every_level([] {
    uint64_t seed = 200;
    for (const Shape& shape : kShapes) {
      for (const double size : {1.0, 1e4, 1e-20, 1e-35, 0.0}) {
        CAPTURE(shape.tokens);
        CAPTURE(shape.dim);
        CAPTURE(size);
        at::Tensor qkv =
            by_head(normal({shape.images, shape.tokens, 3 * shape.heads * shape.dim}, ++seed), shape.heads);
        qkv.select(2, 2).mul_(size);
        // Large products make a softmax of one: q and k share what is left of the size.
        if (size < 1) qkv.mul_(size);
        const at::Tensor none = at::full({shape.images}, -1, at::kInt);
        const at::Tensor want = attention(doubles(qkv), none);
        CHECK(worst(attention_rows(qkv), want) <= tolerance_of(qkv));
        if (shape.queries == 0) continue;
        VariantSet set = variant_set(shape.images, shape.images, shape.tokens, shape.queries, seed);
        set.image = at::arange(shape.images, at::kInt);
        const at::Tensor some = attention_rows(qkv, set.queries);
        REQUIRE(some.sizes() == at::IntArrayRef({shape.images, shape.queries, shape.heads * shape.dim}));
        CHECK(worst(some.flatten(0, 1), set_rows(set, want)) <= tolerance_of(qkv));
      }
    }
  });
}

TEST_CASE("attention_rows with logits that leave one key, and with logits a thousand apart") {
  at_every_level([] {
    for (const double logit : {20.0, 100.0, 1000.0}) {
      CAPTURE(logit);
      at::Tensor qkv = by_head(normal({1, 19, 3 * 2 * 8}, 230), 2);
      qkv.select(2, 0).mul_(std::sqrt(logit));
      qkv.select(2, 1).mul_(std::sqrt(logit));
      const at::Tensor want = attention(doubles(qkv), at::full({1}, -1, at::kInt));
      CHECK(worst(attention_rows(qkv), want) <= tolerance_of(qkv));
    }
  });
}

// Removed tokens: some variants lack none, others one that may be a query.
at::Tensor removed_tokens(const VariantSet& set, bool all, uint64_t seed) {
  at::Tensor removed = random_ids(set.tokens, {set.variants}, seed);
  if (!all) removed.masked_fill_(at::arange(set.variants, at::kLong).remainder(3).eq(2), -1);
  return removed;
}

TEST_CASE("attention_difference: q, k, v + dqkv without the removed key, minus the anchor") {
  at_every_level([] {
    uint64_t seed = 250;
    for (const Shape& shape : kShapes) {
      for (const ProductKind kind :
           {ProductKind::kFloat32, ProductKind::kBfloat16, ProductKind::kScaledBfloat16}) {
        for (const double size : {1.0, 1e-3, 1e-20, 0.0}) {
          const VariantSet set =
              variant_set(shape.images, shape.variants, shape.tokens, shape.queries, ++seed);
          const int64_t width = 3 * shape.heads * shape.dim;
          const at::Tensor qkv = by_head(normal({shape.images, shape.tokens, width}, seed + 1), shape.heads);
          const ProductRows flat =
              product_rows(normal({shape.variants * shape.tokens, width}, seed + 2, size), kind, seed);
          const ProductRows dqkv{
              by_head(flat.values.view({shape.variants, shape.tokens, width}), shape.heads), flat.scale};
          const at::Tensor changed =
              doubles(qkv).index_select(0, set.image) +
              by_head(value_of(flat).view({shape.variants, shape.tokens, width}), shape.heads);
          const at::Tensor anchor = attention_rows(qkv).flatten(0, 1);
          const at::Tensor base = doubles(anchor).index_select(0, anchor_of_rows(set));
          for (const bool remove : {true, false}) {
            CAPTURE(shape.tokens);
            CAPTURE(shape.dim);
            CAPTURE(static_cast<int>(kind));
            CAPTURE(size);
            CAPTURE(remove);
            const at::Tensor removed = remove ? removed_tokens(set, false, seed) : at::Tensor();
            const at::Tensor want =
                set_rows(set, attention(changed, remove ? removed : at::full({set.variants}, -1, at::kInt))) -
                base;
            const at::Tensor got = attention_difference(set, qkv, dqkv, removed, anchor);
            CHECK(worst(got, want) <= tolerance_of(changed) + tolerance_of(qkv));
          }
        }
      }
    }
  });
}

TEST_CASE("removal_difference is attention without the removed key minus the anchor") {
  at_every_level([] {
    uint64_t seed = 300;
    for (const Shape& shape : kShapes) {
      const VariantSet set = variant_set(shape.images, shape.variants, shape.tokens, shape.queries, ++seed);
      const at::Tensor qkv =
          by_head(normal({shape.images, shape.tokens, 3 * shape.heads * shape.dim}, seed + 1), shape.heads);
      const at::Tensor anchor = attention_rows(qkv).flatten(0, 1);
      const at::Tensor removed = removed_tokens(set, true, seed);
      CAPTURE(shape.tokens);
      CAPTURE(shape.dim);
      const at::Tensor want = set_rows(set, attention(doubles(qkv).index_select(0, set.image), removed)) -
                              doubles(anchor).index_select(0, anchor_of_rows(set));
      CHECK(worst(removal_difference(set, qkv, removed, anchor), want) <= tolerance_of(qkv));
    }
  });
}

// One image of one head in which every query gives key `removed` a logit `above` the others'.
struct Dominated {
  at::Tensor qkv, anchor, removed;
  VariantSet set;
};

Dominated dominated(double above, int64_t tokens, int64_t dim, uint64_t seed) {
  at::Tensor qkv = normal({1, 1, 3, tokens, dim}, seed, 0.5);
  const int64_t removed = tokens / 2;
  // A direction of its own for it: q = 1, k = above * sqrt(dim) there, zero for the other keys.
  qkv.select(2, 0).select(-1, 0).fill_(1);
  qkv.select(2, 1).select(-1, 0).zero_();
  qkv.select(2, 1).select(2, removed).zero_();
  qkv.index_put_({at::tensor(0), at::tensor(0), at::tensor(1), at::tensor(removed), at::tensor(0)},
                 at::tensor(above * std::sqrt(static_cast<double>(dim)), at::kFloat));
  Dominated result;
  result.qkv = qkv;
  result.anchor = attention_rows(qkv).flatten(0, 1);
  result.removed = at::full({1}, removed, at::kInt);
  result.set.variants = 1;
  result.set.tokens = tokens;
  result.set.image = at::zeros({1}, at::kInt);
  return result;
}

TEST_CASE("removal_difference where the removed key has nearly all of the probability") {
  // 1 - p from 1e-1 to 1e-50: the others' probabilities have lost their digits, or underflow.
  at_every_level([] {
    for (const double above : {1.0, 3.0, 4.0, 8.0, 14.0, 20.0, 40.0, 90.0, 120.0, 300.0}) {
      for (const int64_t tokens : {2, 7, 17, 33}) {
        for (const int64_t dim : {5, 16, 20}) {
          CAPTURE(above);
          CAPTURE(tokens);
          CAPTURE(dim);
          const Dominated given = dominated(above, tokens, dim, 330);
          const at::Tensor want = attention(doubles(given.qkv), given.removed)[0] - doubles(given.anchor);
          const at::Tensor got = removal_difference(given.set, given.qkv, given.removed, given.anchor);
          // The logits of the keys that stay are small, whatever the removed one's.
          CHECK(worst(got, want) <= 2e-6 * doubles(given.qkv).select(2, 2).abs().max().item<double>());
        }
      }
    }
  });
}

TEST_CASE("removal_difference of a key that hardly mattered is relatively exact") {
  // p down to 1e-30: the difference of two float32 outputs would be nothing but their rounding.
  at_every_level([] {
    for (const double below : {3.0, 10.0, 30.0, 70.0}) {
      CAPTURE(below);
      const Dominated given = dominated(-below, 19, 16, 350);
      const at::Tensor qkv = doubles(given.qkv);
      const at::Tensor logits = qkv.select(2, 0).matmul(qkv.select(2, 1).transpose(-1, -2)) / 4;
      const int64_t removed = given.removed.item<int64_t>();
      const at::Tensor p = logits.softmax(-1)[0][0].select(1, removed).unsqueeze(1);
      const at::Tensor output = logits.softmax(-1).matmul(qkv.select(2, 2))[0][0];
      const at::Tensor want = p / (1 - p) * (output - qkv.select(2, 2)[0][0][removed]);
      const at::Tensor got = doubles(removal_difference(given.set, given.qkv, given.removed, given.anchor));
      const at::Tensor error = (got - want).abs() / want.abs().amax(1, true);
      const at::Tensor others = at::arange(19, at::kLong).ne(removed);
      CHECK(error.index({others}).max().item<double>() < 1e-5);
      CHECK(got[removed].equal(-doubles(given.anchor)[removed]));
    }
  });
}

TEST_CASE("large values and zero rows in removal_difference") {
  at_every_level([] {
    for (const double size : {1e4, 1e-20, 1e-35, 0.0}) {
      CAPTURE(size);
      const VariantSet set = variant_set(2, 5, 9, 4, 370);
      at::Tensor qkv = by_head(normal({2, 9, 3 * 2 * 5}, 371), 2);
      qkv.select(2, 2).mul_(size);
      qkv.select(2, 0).select(2, 3).zero_();
      qkv.select(2, 1).select(2, 4).zero_();
      const at::Tensor anchor = attention_rows(qkv).flatten(0, 1), removed = removed_tokens(set, true, 372);
      const at::Tensor want = set_rows(set, attention(doubles(qkv).index_select(0, set.image), removed)) -
                              doubles(anchor).index_select(0, anchor_of_rows(set));
      CHECK(worst(removal_difference(set, qkv, removed, anchor), want) <= tolerance_of(qkv));
    }
  });
}

}  // namespace
}  // namespace ltrp::test
