// The CUDA attention on the tensor cores, executed in the emulation, against plain float64 and against what
// LibTorch's own attention does in bfloat16. Its operands carry 16 bits, so that a logit errs by some 2^-16
// of the product of norms that it is bounded by; the bound below is twice what that gives.
#include "test/cuda/attention_support.h"

namespace ltrp::test {
namespace {

struct Given {
  VariantSet set;
  int64_t heads = 0, dim = 0;
  at::Tensor qkv, bias;
  ProductOf product;
  at::Tensor removed, anchor;
};

at::Tensor run(const Given& given, bool split = true) {
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
  if (split) {
    cuda::launch_attention_split(a, nullptr);
  } else {
    cuda::launch_attention(a, nullptr);
  }
  return out;
}

double split_tolerance(const at::Tensor& qkv) {
  const double dim = static_cast<double>(qkv.size(4));
  const double logit =
      (doubles(qkv).select(2, 0).norm(2, -1).max() * doubles(qkv).select(2, 1).norm(2, -1).max())
          .item<double>() /
      std::sqrt(dim);
  return std::ldexp(2 + 2 * logit, -16) * doubles(qkv).select(2, 2).abs().max().item<double>() + 1e-38;
}

TEST_CASE("CUDA attention on tensor cores: differences, removed keys, queries, the anchor subtracted") {
  uint64_t seed = 800;
  for (const HeadsShape& shape : heads_shapes()) {
    if (shape.dim > 128) continue;
    for (size_t kind = static_cast<size_t>(shape.tokens) % 2; kind < all_products().size(); kind += 2) {
      const VariantSet set = variant_set(shape.images, shape.variants, shape.tokens, shape.queries, ++seed);
      const int64_t width = 3 * shape.heads * shape.dim;
      const double size = kind == 0 ? 1.0 : 1e-2;
      Given given;
      given.set = set;
      given.heads = shape.heads;
      given.dim = shape.dim;
      given.qkv = by_head(normal({shape.images, shape.tokens, width}, seed + 1), shape.heads);
      const ProductOf flat = product_of_kind(normal({shape.variants * shape.tokens, width}, seed + 2, size),
                                             all_products()[kind], seed);
      given.product = flat;
      given.product.values = by_head(flat.values.view({shape.variants, -1, width}), shape.heads);
      const at::Tensor changed =
          doubles(given.qkv).index_select(0, set.image) +
          by_head(flat.value().view({shape.variants, shape.tokens, width}), shape.heads);
      given.anchor = attention(given.qkv, removed_none(shape.images)).flatten(0, 1).contiguous();
      const at::Tensor base = doubles(given.anchor).index_select(0, anchor_of_rows(set));
      for (const bool remove : {true, false}) {
        CAPTURE(shape.tokens);
        CAPTURE(shape.dim);
        CAPTURE(kind);
        CAPTURE(remove);
        given.removed = remove ? removed_tokens(set, false, seed) : at::Tensor();
        const at::Tensor removed = remove ? given.removed : removed_none(set.variants);
        const at::Tensor want = set_rows(set, attention(changed, removed)) - base;
        const at::Tensor got = run(given);
        CHECK(worst(got, want) <= split_tolerance(changed));
        CHECK(worst(got, doubles(run(given, false))) <= split_tolerance(changed));
      }
    }
  }
}

TEST_CASE("CUDA attention on tensor cores of a product with its bias, where the product left it") {
  uint64_t seed = 850;
  for (const HeadsShape& shape : heads_shapes()) {
    if (shape.dim > 128) continue;
    const int64_t n = shape.images, width = 3 * shape.heads * shape.dim;
    const ProductShape kind = all_products()[static_cast<size_t>(++seed) % 5];
    CAPTURE(shape.tokens);
    CAPTURE(shape.dim);
    Given given;
    given.set = variant_set(n, n, shape.tokens, shape.queries, seed);
    given.set.image = at::arange(n, at::kInt);
    given.heads = shape.heads;
    given.dim = shape.dim;
    given.bias = normal({width}, seed + 1);
    given.product = product_of_kind(normal({n * shape.tokens, width}, seed + 2), kind, seed);
    const at::Tensor qkv =
        by_head((given.product.value() + doubles(given.bias)).view({n, shape.tokens, width}), shape.heads);
    CHECK(worst(run(given), set_rows(given.set, attention(qkv, removed_none(n)))) <= split_tolerance(qkv));
  }
}

TEST_CASE("CUDA attention on tensor cores errs far less than LibTorch's in bfloat16") {
  for (const int64_t dim : {32, 64, 80}) {
    CAPTURE(dim);
    const int64_t tokens = 70, heads = 2;
    const at::Tensor base = by_head(normal({1, tokens, 3 * heads * dim}, 870), heads);
    const at::Tensor change = by_head(normal({2, tokens, 3 * heads * dim}, 871, 0.05), heads);
    Given given;
    given.set.variants = 2;
    given.set.tokens = tokens;
    given.set.image = at::zeros({2}, at::kInt);
    given.heads = heads;
    given.dim = dim;
    given.qkv = base;
    given.product = {Encoding::kFloat32, change, {}, {}};
    given.removed = at::tensor({3, 40}, at::kInt);
    given.anchor = attention(base, removed_none(1), true).flatten(0, 1).contiguous();
    const at::Tensor anchors = doubles(given.anchor).repeat({2, 1});
    const at::Tensor exact =
        attention(doubles(base) + doubles(change), given.removed).flatten(0, 1) - anchors;
    const at::Tensor plain =
        doubles(attention((base + change).to(at::kBFloat16), given.removed, true)).flatten(0, 1) -
        doubles(attention(base.to(at::kBFloat16), removed_none(1), true)).flatten(0, 1).repeat({2, 1});
    const at::Tensor error = doubles(run(given)) - exact;
    MESSAGE("dim ", dim, ": error relative to the difference ",
            root_mean_square(error) / root_mean_square(exact), ", LibTorch in bfloat16 ",
            root_mean_square(plain - exact) / root_mean_square(exact));
    CHECK(root_mean_square(error) <= 0.01 * root_mean_square(plain - exact));
    // Less than rounding the difference to bfloat16 does.
    CHECK(root_mean_square(error) <= root_mean_square(doubles(exact.to(at::kBFloat16)) - exact));
  }
}

TEST_CASE("CUDA attention on tensor cores with logits far apart, and of zeros") {
  for (const double logit : {0.0, 20.0, 100.0, 1000.0}) {
    CAPTURE(logit);
    Given given;
    at::Tensor qkv = by_head(normal({1, 70, 3 * 2 * 8}, 880), 2);
    qkv.select(2, 0).mul_(std::sqrt(logit));
    qkv.select(2, 1).mul_(std::sqrt(logit));
    given.set.variants = 1;
    given.set.tokens = 70;
    given.set.image = at::zeros({1}, at::kInt);
    given.heads = 2;
    given.dim = 8;
    given.qkv = qkv;
    const at::Tensor want = attention(doubles(qkv), removed_none(1)).flatten(0, 1);
    CHECK(worst(run(given), want) <= split_tolerance(qkv));
  }
}

}  // namespace
}  // namespace ltrp::test
