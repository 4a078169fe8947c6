// The CUDA attention of variants, executed in the emulation, against plain float64. It computes in float32: a
// logit is right to a few units in its last place, which the exponential makes relative errors of the
// probabilities, so that outputs are right to that times the largest value.
#include "kernels/forward.h"
#include "test/cuda/attention_support.h"

namespace ltrp::test {
namespace {

struct Given {
  VariantSet set;
  int64_t heads = 0, dim = 0;
  at::Tensor qkv, bias;  // one of them
  ProductOf product;     // values undefined: none
  at::Tensor removed, anchor;
};

at::Tensor run(const Given& given) {
  args::Attention a;
  a.set = argument_of(given.set);
  a.heads = given.heads;
  a.head_dim = given.dim;
  if (given.qkv.defined()) a.qkv = floats_of(given.qkv);
  if (given.bias.defined()) a.bias = floats_of(given.bias);
  if (given.product.values.defined()) a.dqkv = given.product.argument();
  if (given.removed.defined()) a.removed = given.removed.const_data_ptr<int32_t>();
  if (given.anchor.defined()) a.anchor_output = floats_of(given.anchor);
  at::Tensor out = unwritten({given.set.rows(), given.heads * given.dim}, at::kFloat);
  a.out = floats_in(out);
  cuda::launch_attention(a, nullptr);
  return out;
}

// A product's rows [m * T, 3E] in its encoding -> by head; its scales stay.
ProductOf product_by_head(const ProductOf& flat, int64_t variants, int64_t heads) {
  ProductOf result = flat;
  result.values = by_head(flat.values.view({variants, -1, flat.values.size(1)}), heads);
  return result;
}

// Queries, keys and values of the images alone: every image is its own and only variant.
Given images_alone(const at::Tensor& qkv, const at::Tensor& queries) {
  Given given;
  given.set.variants = qkv.size(0);
  given.set.tokens = qkv.size(3);
  given.set.image = at::arange(qkv.size(0), at::kInt);
  given.set.queries = queries;
  given.heads = qkv.size(1);
  given.dim = qkv.size(4);
  given.qkv = qkv;
  return given;
}

TEST_CASE("CUDA attention of images is softmax(q k^T / sqrt(d)) v, for all tokens and for some") {
  uint64_t seed = 200;
  for (const HeadsShape& shape : heads_shapes()) {
    for (const double size : {1.0, 1e4, 1e-20, 0.0}) {
      CAPTURE(shape.tokens);
      CAPTURE(shape.dim);
      CAPTURE(size);
      at::Tensor qkv =
          by_head(normal({shape.images, shape.tokens, 3 * shape.heads * shape.dim}, ++seed), shape.heads);
      qkv.select(2, 2).mul_(size);
      // Large products make a softmax of one: q and k share what is left of the size.
      if (size < 1) qkv.mul_(size);
      const at::Tensor want = attention(doubles(qkv), removed_none(shape.images));
      CHECK(worst(run(images_alone(qkv, {})), want.flatten(0, 1)) <= tolerance_of(qkv));
      if (shape.queries == 0) continue;
      VariantSet set = variant_set(shape.images, shape.images, shape.tokens, shape.queries, seed);
      set.image = at::arange(shape.images, at::kInt);
      CHECK(worst(run(images_alone(qkv, set.queries)), set_rows(set, want)) <= tolerance_of(qkv));
    }
  }
}

TEST_CASE("CUDA attention with logits that leave one key, and with logits a thousand apart") {
  for (const double logit : {20.0, 100.0, 1000.0}) {
    for (const int64_t tokens : {19, 70}) {
      CAPTURE(logit);
      at::Tensor qkv = by_head(normal({1, tokens, 3 * 2 * 8}, 230), 2);
      qkv.select(2, 0).mul_(std::sqrt(logit));
      qkv.select(2, 1).mul_(std::sqrt(logit));
      const at::Tensor want = attention(doubles(qkv), removed_none(1));
      CHECK(worst(run(images_alone(qkv, {})), want.flatten(0, 1)) <= tolerance_of(qkv));
    }
  }
}

TEST_CASE("CUDA attention_difference: q, k, v + dqkv without the removed key, minus the anchor") {
  uint64_t seed = 250;
  for (const HeadsShape& shape : heads_shapes()) {
    for (size_t kind = static_cast<size_t>(shape.tokens) % 2; kind < all_products().size(); kind += 2) {
      const double size = std::array{1.0, 1e-3, 1e-20, 0.0}[static_cast<size_t>(seed) % 4];
      const VariantSet set = variant_set(shape.images, shape.variants, shape.tokens, shape.queries, ++seed);
      const int64_t width = 3 * shape.heads * shape.dim;
      Given given;
      given.set = set;
      given.heads = shape.heads;
      given.dim = shape.dim;
      given.qkv = by_head(normal({shape.images, shape.tokens, width}, seed + 1), shape.heads);
      const ProductOf flat = product_of_kind(normal({shape.variants * shape.tokens, width}, seed + 2, size),
                                             all_products()[kind], seed);
      given.product = product_by_head(flat, shape.variants, shape.heads);
      const at::Tensor changed =
          doubles(given.qkv).index_select(0, set.image) +
          by_head(flat.value().view({shape.variants, shape.tokens, width}), shape.heads);
      given.anchor = attention(given.qkv, removed_none(shape.images)).flatten(0, 1).contiguous();
      const at::Tensor base = doubles(given.anchor).index_select(0, anchor_of_rows(set));
      for (const bool remove : {true, false}) {
        CAPTURE(shape.tokens);
        CAPTURE(shape.dim);
        CAPTURE(kind);
        CAPTURE(size);
        CAPTURE(remove);
        given.removed = remove ? removed_tokens(set, false, seed) : at::Tensor();
        const at::Tensor removed = remove ? given.removed : removed_none(set.variants);
        const at::Tensor want = set_rows(set, attention(changed, removed)) - base;
        const double allowed = tolerance_of(changed) + tolerance_of(given.qkv);
        const at::Tensor got = run(given);
        CHECK(worst(got, want) <= allowed);
        if (kind == 2 || kind == 3) {
          const at::Tensor twin = attention_difference(
              set, given.qkv, {given.product.values, given.product.scale}, given.removed, given.anchor);
          CHECK(worst(got, doubles(twin)) <= 2 * allowed);
        }
        if (!remove && kind == 0) {
          Given shifted = given;
          shifted.qkv = misaligned(given.qkv);
          CHECK(run(shifted).equal(got));
        }
      }
    }
  }
}

TEST_CASE("CUDA attention of a product with its bias, where the product left it") {
  uint64_t seed = 600;
  for (const HeadsShape& shape : heads_shapes()) {
    for (const ProductShape& kind : all_products()) {
      CAPTURE(shape.tokens);
      CAPTURE(shape.dim);
      CAPTURE(static_cast<int>(kind.encoding));
      const int64_t n = shape.images, width = 3 * shape.heads * shape.dim;
      Given given;
      given.set = variant_set(n, n, shape.tokens, shape.queries, ++seed);
      given.set.image = at::arange(n, at::kInt);
      given.heads = shape.heads;
      given.dim = shape.dim;
      given.bias = normal({width}, seed + 1);
      given.product = product_of_kind(normal({n * shape.tokens, width}, seed + 2), kind, seed);
      const at::Tensor qkv =
          by_head((given.product.value() + doubles(given.bias)).view({n, shape.tokens, width}), shape.heads);
      const at::Tensor want = set_rows(given.set, attention(qkv, removed_none(n)));
      const at::Tensor got = run(given);
      CHECK(worst(got, want) <= tolerance_of(qkv));
      if (kind.encoding == Encoding::kBfloat16) {
        const at::Tensor twin = product_attention({given.product.values, given.product.scale}, given.bias,
                                                  shape.tokens, shape.heads, given.set.queries);
        CHECK(worst(got, doubles(twin)) <= 2 * tolerance_of(qkv));
      }
    }
  }
}

TEST_CASE("CUDA attention errs at most twice as much as LibTorch's in float32") {
  for (const int64_t dim : {32, 64, 80}) {
    CAPTURE(dim);
    const int64_t tokens = 70, heads = 2;
    const at::Tensor base = by_head(normal({1, tokens, 3 * heads * dim}, 700, 1.5), heads);
    const at::Tensor change = by_head(normal({2, tokens, 3 * heads * dim}, 701, 0.1), heads);
    Given given = images_alone(base, {});
    given.set.variants = 2;
    given.set.image = at::zeros({2}, at::kInt);
    given.product = {Encoding::kFloat32, change, {}, {}};
    given.removed = at::tensor({3, 40}, at::kInt);
    given.anchor = attention(base, removed_none(1), true).flatten(0, 1).contiguous();
    const at::Tensor anchors = given.anchor.repeat({2, 1});
    const at::Tensor exact =
        attention(doubles(base) + doubles(change), given.removed).flatten(0, 1) - doubles(anchors);
    const at::Tensor plain = attention(base + change, given.removed, true).flatten(0, 1) - anchors;
    check_twice_libtorch(doubles(run(given)), doubles(plain), exact);
  }
}

TEST_CASE("CUDA attention refuses heads that are too wide") {
  const at::Tensor qkv = normal({1, 1, 3, 2, 257}, 710);
  CHECK_THROWS_AS(run(images_alone(qkv, {})), std::runtime_error);
}

}  // namespace
}  // namespace ltrp::test
