// The CUDA kernel of the first block, executed in the emulation: the difference that one missing key makes,
// against plain float64.
#include "test/cuda/attention_support.h"

namespace ltrp::test {
namespace {

at::Tensor run(const VariantSet& set, const at::Tensor& qkv, const at::Tensor& removed,
               const at::Tensor& anchor) {
  args::RemovalAttention a;
  a.set = argument_of(set);
  a.heads = qkv.size(1);
  a.head_dim = qkv.size(4);
  a.qkv = floats_of(qkv);
  a.removed = removed.const_data_ptr<int32_t>();
  a.anchor_output = floats_of(anchor);
  at::Tensor out = unwritten({set.rows(), a.heads * a.head_dim}, at::kFloat);
  a.out = floats_in(out);
  cuda::launch_removal_attention(a, qkv.size(0), nullptr);
  return out;
}

at::Tensor anchor_of(const at::Tensor& qkv) {
  return attention(doubles(qkv), removed_none(qkv.size(0))).flatten(0, 1).to(at::kFloat).contiguous();
}

TEST_CASE("CUDA removal_difference is attention without the removed key minus the anchor") {
  uint64_t seed = 300;
  for (const HeadsShape& shape : heads_shapes()) {
    for (const int64_t variants : {shape.variants, int64_t{37}}) {
      if (variants == 37 && shape.tokens > 20) continue;
      const VariantSet set = variant_set(shape.images, variants, shape.tokens, shape.queries, ++seed);
      const at::Tensor qkv =
          by_head(normal({shape.images, shape.tokens, 3 * shape.heads * shape.dim}, seed + 1), shape.heads);
      const at::Tensor anchor = anchor_of(qkv), removed = removed_tokens(set, true, seed);
      CAPTURE(shape.tokens);
      CAPTURE(shape.dim);
      CAPTURE(variants);
      const at::Tensor want = set_rows(set, attention(doubles(qkv).index_select(0, set.image), removed)) -
                              doubles(anchor).index_select(0, anchor_of_rows(set));
      const at::Tensor got = run(set, qkv, removed, anchor);
      CHECK(worst(got, want) <= tolerance_of(qkv));
      CHECK(worst(got, doubles(removal_difference(set, qkv, removed, anchor))) <= 2 * tolerance_of(qkv));
      CHECK(run(set, misaligned(qkv), removed, anchor).equal(got));
    }
  }
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
  result.anchor = anchor_of(qkv);
  result.removed = at::full({1}, removed, at::kInt);
  result.set.variants = 1;
  result.set.tokens = tokens;
  result.set.image = at::zeros({1}, at::kInt);
  return result;
}

TEST_CASE("CUDA removal_difference where the removed key has nearly all of the probability") {
  // 1 - p from 1e-1 to 1e-50: the others' probabilities have lost their digits, or underflow.
  for (const double above : {1.0, 3.0, 4.0, 8.0, 20.0, 90.0, 300.0}) {
    for (const int64_t tokens : {2, 7, 35}) {
      for (const int64_t dim : {5, 64, 160}) {
        CAPTURE(above);
        CAPTURE(tokens);
        CAPTURE(dim);
        const Dominated given = dominated(above, tokens, dim, 330);
        const at::Tensor want = attention(doubles(given.qkv), given.removed)[0] - doubles(given.anchor);
        const at::Tensor got = run(given.set, given.qkv, given.removed, given.anchor);
        // The logits of the keys that stay are small, whatever the removed one's.
        CHECK(worst(got, want) <= 2e-6 * doubles(given.qkv).select(2, 2).abs().max().item<double>());
      }
    }
  }
}

TEST_CASE("CUDA removal_difference of a key that hardly mattered is relatively exact") {
  // p down to 1e-30: the difference of two float32 outputs would be nothing but their rounding.
  for (const double below : {3.0, 10.0, 30.0, 70.0}) {
    CAPTURE(below);
    const Dominated given = dominated(-below, 19, 16, 350);
    const at::Tensor qkv = doubles(given.qkv);
    const at::Tensor logits = qkv.select(2, 0).matmul(qkv.select(2, 1).transpose(-1, -2)) / 4;
    const int64_t removed = given.removed.item<int64_t>();
    const at::Tensor p = logits.softmax(-1)[0][0].select(1, removed).unsqueeze(1);
    const at::Tensor output = logits.softmax(-1).matmul(qkv.select(2, 2))[0][0];
    const at::Tensor want = p / (1 - p) * (output - qkv.select(2, 2)[0][0][removed]);
    const at::Tensor got = doubles(run(given.set, given.qkv, given.removed, given.anchor));
    const at::Tensor error = (got - want).abs() / want.abs().amax(1, true);
    const at::Tensor others = at::arange(19, at::kLong).ne(removed);
    CHECK(error.index({others}).max().item<double>() < 1e-5);
    CHECK(got[removed].equal(-doubles(given.anchor)[removed]));
  }
}

TEST_CASE("CUDA removal_difference: large values and zero rows") {
  for (const double size : {1e4, 1e-20, 1e-35, 0.0}) {
    CAPTURE(size);
    const VariantSet set = variant_set(2, 5, 9, 4, 370);
    at::Tensor qkv = by_head(normal({2, 9, 3 * 2 * 5}, 371), 2);
    qkv.select(2, 2).mul_(size);
    qkv.select(2, 0).select(2, 3).zero_();
    qkv.select(2, 1).select(2, 4).zero_();
    const at::Tensor anchor = anchor_of(qkv), removed = removed_tokens(set, true, 372);
    const at::Tensor want = set_rows(set, attention(doubles(qkv).index_select(0, set.image), removed)) -
                            doubles(anchor).index_select(0, anchor_of_rows(set));
    CHECK(worst(run(set, qkv, removed, anchor), want) <= tolerance_of(qkv));
  }
}

TEST_CASE("CUDA removal_difference errs at most twice as much as LibTorch's attention in float32") {
  for (const int64_t dim : {32, 64, 80}) {
    CAPTURE(dim);
    const at::Tensor qkv = by_head(normal({1, 70, 3 * 2 * dim}, 380, 1.5), 2);
    VariantSet set = variant_set(1, 3, 70, 0, 381);
    const at::Tensor anchor = attention(qkv, removed_none(1), true).flatten(0, 1).contiguous();
    const at::Tensor removed = at::tensor({3, 40, 69}, at::kInt), anchors = anchor.repeat({3, 1});
    const at::Tensor repeated = qkv.expand({3, -1, -1, -1, -1});
    const at::Tensor exact = attention(doubles(repeated), removed).flatten(0, 1) - doubles(anchors);
    const at::Tensor plain = attention(repeated, removed, true).flatten(0, 1) - anchors;
    check_twice_libtorch(doubles(run(set, qkv, removed, anchor)), doubles(plain), exact);
  }
}

}  // namespace
}  // namespace ltrp::test
