// The CUDA kernels that move rows, executed in the emulation: rounding, adding, summing, patches, heads.
#include <array>

#include "kernels/forward.h"
#include "kernels/pixels.h"
#include "test/cuda/kernel_support.h"

namespace ltrp::test {
namespace {

Rows rounded(const RowRange& range, const at::Tensor& x, Encoding encoding) {
  args::RoundRows a;
  a.width = x.size(1);
  a.rows = argument_of(range);
  a.x = floats_of(x);
  Rows rows(range.size(), a.width, encoding);
  a.out = rows.out();
  cuda::launch_round_rows(a, range.size(), nullptr);
  return rows;
}

TEST_CASE("CUDA round_rows rounds as the products want it, at every width and size") {
  uint64_t seed = 90;
  for (const int64_t width : row_widths()) {
    for (const double size : {1.0, 1e4, 1e30, 1e-20, 1e-35, 1e-37, 1e-41, 0.0}) {
      at::Tensor x = normal({5, width}, ++seed, size);
      x[3].zero_();
      x[4].fill_(-static_cast<float>(size));
      const RowRange range = ranges_of(5, seed)[static_cast<size_t>(seed) % 4];
      const at::Tensor rows = x.index_select(0, ids_of(range)), most = doubles(rows).abs().amax(1);
      CAPTURE(width);
      CAPTURE(size);
      // To nearest, ties to even, as LibTorch does.
      CHECK(rounded(range, x, Encoding::kFloat32).values.equal(rows));
      CHECK(rounded(range, x, Encoding::kBfloat16).values.equal(rows.to(at::kBFloat16)));
      const at::Tensor exactly = at::zeros({1, 1}, at::kDouble);
      for (const Encoding encoding : {Encoding::kFloat16, Encoding::kFloat8, Encoding::kInt8}) {
        CAPTURE(static_cast<int>(encoding));
        const Rows got = rounded(range, x, encoding);
        check_rounded(got, doubles(rows), exactly);
        const at::Tensor stored = doubles(got.values).abs().amax(1), scale = doubles(got.scale);
        CHECK(at::logical_or(most > 0, scale == 1).all().item<bool>());
        if (encoding == Encoding::kFloat16) {
          // A power of two that puts the largest magnitude into [1, 2].
          CHECK(scale.log2().eq(scale.log2().round()).all().item<bool>());
          CHECK(at::logical_or(at::logical_and(stored >= 1, stored <= 2), most < 1.2e-38).all().item<bool>());
        } else {
          const double largest = encoding == Encoding::kFloat8 ? 448 : 127;
          CHECK(at::logical_or(stored == largest, most < kTiny).all().item<bool>());
          const at::Tensor want = at::where(most > 0, most / largest, at::ones_like(most));
          CHECK((scale - want).abs().le(2 * kUlp * want + 1.4e-45).all().item<bool>());
        }
      }
    }
  }
}

TEST_CASE("CUDA round_rows and the CPU's: the same bytes and the same scales") {
  for (const int64_t width : {7, 100, 768}) {
    const at::Tensor x = normal({6, width}, 95);
    const RowRange all{0, 6, {}};
    CHECK(rounded(all, x, Encoding::kBfloat16).values.equal(round_rows(all, x, Precision::kBfloat16).values));
    const RoundedRows twin = round_rows(all, x, Precision::kInt8);
    const Rows got = rounded(all, x, Encoding::kInt8);
    CHECK(got.values.to(at::kInt).equal(twin.values.to(at::kInt) - 128));
    CHECK(got.scale.equal(twin.scale));
  }
}

TEST_CASE("CUDA rounding errs at most twice as much as LibTorch's conversions") {
  const at::Tensor x = normal({32, 256}, 96);
  for (const Encoding encoding : all_encodings()) {
    if (encoding == Encoding::kFloat32) continue;
    CAPTURE(static_cast<int>(encoding));
    check_twice_libtorch(rounded({0, 32, {}}, x, encoding).value(), rounded_by_libtorch(x, encoding),
                         doubles(x));
  }
}

TEST_CASE("CUDA e4m3 and float16 rounding: ties go to the even neighbour, denormals are kept") {
  // The largest value sets the scale to one; the others are middles between neighbours.
  std::vector<float> values{448.0F};
  for (int exponent = -9; exponent < 8; ++exponent) {
    for (int step = 0; step < 8; ++step) {
      values.push_back(std::ldexp(1.0F + (static_cast<float>(step) + 0.5F) / 8, exponent));
      values.push_back(-values.back());
    }
  }
  const at::Tensor x = at::tensor(values).view({1, -1});
  const Rows got = rounded({0, 1, {}}, x, Encoding::kFloat8);
  CHECK(got.scale.item<float>() == 1.0F);
  CHECK(got.values.view(at::kByte).equal(x.to(at::kFloat8_e4m3fn).view(at::kByte)));
  const at::Tensor half =
      at::tensor({1.0F, 1.00048828125F, 1.00146484375F, 3.0e-8F, 8.9e-8F, -6.1e-5F}).view({1, -1});
  CHECK(rounded({0, 1, {}}, half, Encoding::kFloat16).values.equal(half.to(at::kHalf)));
}

TEST_CASE("CUDA add_rows adds a product to the rows of the range and leaves the others alone") {
  uint64_t seed = 110;
  for (const int64_t width : row_widths()) {
    for (const ProductShape& kind : all_products()) {
      ++seed;
      const RowRange range = ranges_of(7, seed)[static_cast<size_t>(seed) % 4];
      CAPTURE(width);
      CAPTURE(static_cast<int>(kind.encoding));
      const at::Tensor before = normal({7, width}, seed + 1);
      at::Tensor x = before.clone();
      const ProductOf update = product_of_kind(normal({range.size(), width}, seed + 2), kind, seed);
      args::AddRows a;
      a.width = width;
      a.rows = argument_of(range);
      a.update = update.argument();
      a.x = floats_in(x);
      cuda::launch_add_rows(a, range.size(), nullptr);
      at::Tensor want = doubles(before);
      want.index_add_(0, ids_of(range), update.value());
      const at::Tensor allowed = 4 * kUlp * (want.abs() + doubles(before).abs());
      CHECK((doubles(x) - want).abs().le(allowed).all().item<bool>());
      const at::Tensor others = at::ones({7}, at::kBool).index_fill_(0, ids_of(range), 0);
      CHECK(x.index({others}).equal(before.index({others})));
    }
  }
}

TEST_CASE("CUDA row_sums: sums of magnitudes and of squares, and twice LibTorch's error at most") {
  uint64_t seed = 130;
  for (const int64_t width : row_widths()) {
    for (const double size : {1.0, 1e4, 1e-15, 0.0}) {
      for (const ProductShape& kind : all_products()) {
        CAPTURE(width);
        CAPTURE(size);
        ++seed;
        const ProductOf x = product_of_kind(normal({6, width}, seed, size), kind, seed);
        for (const bool squared : {false, true}) {
          at::Tensor got = unwritten({6}, at::kDouble);
          args::RowSums a;
          a.width = width;
          a.x = x.argument();
          a.squared = squared;
          a.sums = got.mutable_data_ptr<double>();
          cuda::launch_row_sums(a, 6, nullptr);
          const at::Tensor want = (squared ? x.value().square() : x.value().abs()).sum(1);
          // Positive terms: the relative error is that of the additions of one lane.
          CHECK((got - want).abs().le(want * kUlp * 64).all().item<bool>());
          if (kind.encoding == Encoding::kBfloat16 && !kind.scaled) {
            const ProductRows rows{x.values, {}};
            CHECK((got - row_sums(rows, squared)).abs().le(want * kUlp * 96).all().item<bool>());
          }
        }
      }
    }
  }
}

TEST_CASE("CUDA patch_rows are the patches that a projection reads") {
  for (const int64_t p : {1, 3, 8, 14, 16}) {
    CAPTURE(p);
    const at::Tensor images = normal({2, 3, 3 * p, 5 * p}, 1, 2);
    const at::Tensor all = patchify_channels_first(images, p);
    const at::Tensor ids = at::tensor({0, 7, 14, 2, 3, 9}, at::kLong).view({2, 3});
    const at::Tensor chosen = all.gather(1, ids.unsqueeze(-1).expand({2, 3, 3 * p * p}));
    for (const Encoding encoding : all_encodings()) {
      for (const bool whole : {true, false}) {
        const at::Tensor exact = doubles(whole ? all : chosen).reshape({-1, 3 * p * p});
        args::PatchRows a;
        a.patch_size = p;
        a.height = 3 * p;
        a.width = 5 * p;
        a.per_image = whole ? 15 : 3;
        a.ids = whole ? nullptr : ids.const_data_ptr<int64_t>();
        a.images = floats_of(images);
        Rows got(exact.size(0), 3 * p * p, encoding);
        a.out = got.out();
        cuda::launch_patch_rows(a, exact.size(0), nullptr);
        check_rounded(got, exact, at::zeros({1, 1}, at::kDouble));
        if (encoding == Encoding::kBfloat16) {
          CHECK(got.values.equal(
              patch_rows(images, p, whole ? at::Tensor() : ids, Precision::kBfloat16).values));
        }
      }
    }
  }
}

at::Tensor split(const at::Tensor& rows, int64_t variants, int64_t tokens, int64_t heads,
                 const at::Tensor& packed_row) {
  const int64_t dim = rows.size(1) / (3 * heads);
  at::Tensor out = unwritten({variants, heads, 3, tokens, dim}, rows.scalar_type());
  args::SplitHeads a;
  a.packed_row = packed_row.defined() ? packed_row.const_data_ptr<int32_t>() : nullptr;
  a.tokens = tokens;
  a.heads = heads;
  a.head_bytes = dim * static_cast<int64_t>(rows.element_size());
  a.rows = static_cast<const char*>(rows.const_data_ptr());
  a.out = static_cast<char*>(out.mutable_data_ptr());
  cuda::launch_split_heads(a, variants, nullptr);
  return out;
}

TEST_CASE("CUDA split_heads lays q, k and v out by head, in any type, zeros for tokens without a row") {
  for (const auto& [tokens, heads, dim] : {std::array<int64_t, 3>{1, 1, 1},
                                           {5, 3, 1},
                                           {3, 2, 5},
                                           {4, 2, 16},
                                           {2, 3, 33},
                                           {6, 2, 64},
                                           {3, 2, 80}}) {
    const at::Tensor rows = normal({2 * tokens, 3 * heads * dim}, 150, 20);
    // Every third token of the set has no row.
    at::Tensor packed_row = at::arange(2 * tokens, at::kInt);
    packed_row.masked_fill_(packed_row.remainder(3).eq(1), -1);
    for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kChar, at::kInt}) {
      CAPTURE(dim);
      const at::Tensor x = rows.to(type);
      const at::Tensor want = x.view({2, tokens, 3, heads, dim}).permute({0, 3, 2, 1, 4});
      CHECK(split(x, 2, tokens, heads, {}).equal(want));
      CHECK(split(misaligned(x), 2, tokens, heads, {}).equal(want));
      const at::Tensor kept = x.masked_fill(packed_row.lt(0).unsqueeze(1), 0);
      CHECK(split(x, 2, tokens, heads, packed_row)
                .equal(kept.view({2, tokens, 3, heads, dim}).permute({0, 3, 2, 1, 4})));
      if (type == at::kFloat || type == at::kBFloat16) {
        CHECK(split(x, 2, tokens, heads, packed_row).equal(split_heads(x, tokens, heads, packed_row)));
      }
    }
  }
}

}  // namespace
}  // namespace ltrp::test
