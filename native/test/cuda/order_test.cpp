// Results of the CUDA kernels do not depend on the order in which blocks and threads happen to run: the same
// bits in every order that the emulation tries. Shapes in which warps share rows, keys and variants.
#include <functional>

#include "test/cuda/attention_support.h"
#include "test/emulation/machine.h"

namespace ltrp::test {
namespace {

// body() returns what a kernel wrote, as bytes.
void check_every_order(const std::function<std::vector<at::Tensor>()>& body) {
  std::vector<at::Tensor> first;
  int64_t runs = 0;
  emulation::in_every_order([&] {
    const std::vector<at::Tensor> got = body();
    if (runs++ == 0) {
      first = got;
      return;
    }
    REQUIRE(got.size() == first.size());
    for (size_t i = 0; i < got.size(); ++i) {
      CHECK(got[i].view(at::kByte).equal(first[i].view(at::kByte)));
    }
  });
  CHECK(runs > 1);
}

TEST_CASE("rows that one warp or several share come out the same in every order") {
  for (const int64_t width : {100, 1028, 4100, 8200}) {
    const at::Tensor s = normal({6, width}, 1, 2, 0.5), weight = normal({width}, 2),
                     bias = normal({width}, 3);
    LayerNormAnchor anchor;
    layer_norm_rows(s, weight, bias, 1e-6, &anchor);
    const ProductOf update = product_of_kind(normal({6, width}, 4, 0.1), all_products()[3], 5);
    const at::Tensor image = at::zeros({1}, at::kInt);
    for (const Encoding encoding : {Encoding::kFloat32, Encoding::kFloat8, Encoding::kInt8}) {
      CAPTURE(width);
      check_every_order([&]() -> std::vector<at::Tensor> {
        at::Tensor d = normal({6, width}, 6, 0.1), x = s.clone(), sums = unwritten({6}, at::kDouble);
        Rows difference(6, width, encoding), normed(6, width, encoding), gelu(6, width, encoding);
        args::LayerNormDifference a;
        a.set = {1, 6, 6, image.const_data_ptr<int32_t>(), nullptr};
        a.width = width;
        a.d = floats_in(d);
        a.update = update.argument();
        a.normed = floats_of(anchor.normed);
        a.deviation = floats_of(anchor.deviation);
        a.weight = floats_of(weight);
        a.out = difference.out();
        cuda::launch_layer_norm_difference(a, 6, nullptr);
        args::AddLayerNorm b;
        b.width = width;
        b.eps = 1e-6;
        b.x = floats_in(x);
        b.update = update.argument();
        b.update_bias = b.bias = floats_of(bias);
        b.weight = floats_of(weight);
        b.out = normed.out();
        cuda::launch_add_layer_norm(b, 6, nullptr);
        args::GeluRows c;
        c.width = width;
        c.u = update.argument();
        c.bias = floats_of(bias);
        c.out = gelu.out();
        cuda::launch_gelu_rows(c, 6, nullptr);
        args::RowSums e;
        e.width = width;
        e.x = update.argument();
        e.sums = sums.mutable_data_ptr<double>();
        cuda::launch_row_sums(e, 6, nullptr);
        return {d, x, sums, difference.values, normed.values, gelu.values};
      });
    }
  }
}

TEST_CASE("attention comes out the same in every order") {
  for (const int64_t dim : {20, 64, 100}) {
    CAPTURE(dim);
    const VariantSet set = variant_set(2, 5, 45, 0, 10);
    const at::Tensor qkv = by_head(normal({2, 45, 3 * dim}, 11), 1);
    const ProductOf change{Encoding::kFloat32, by_head(normal({5, 45, 3 * dim}, 12, 0.1), 1), {}, {}};
    const at::Tensor anchor = attention(qkv, removed_none(2)).flatten(0, 1).contiguous();
    const at::Tensor removed = removed_tokens(set, true, 13);
    check_every_order([&]() -> std::vector<at::Tensor> {
      at::Tensor changed = unwritten({set.rows(), dim}, at::kFloat), without = changed.clone();
      args::Attention a;
      a.set = argument_of(set);
      a.heads = 1;
      a.head_dim = dim;
      a.qkv = floats_of(qkv);
      a.dqkv = change.argument();
      a.removed = removed.const_data_ptr<int32_t>();
      a.anchor_output = floats_of(anchor);
      a.out = floats_in(changed);
      cuda::launch_attention(a, nullptr);
      args::RemovalAttention b;
      b.set = a.set;
      b.heads = 1;
      b.head_dim = dim;
      b.qkv = a.qkv;
      b.removed = a.removed;
      b.anchor_output = a.anchor_output;
      b.out = floats_in(without);
      cuda::launch_removal_attention(b, 2, nullptr);
      return {changed, without};
    });
  }
}

}  // namespace
}  // namespace ltrp::test
