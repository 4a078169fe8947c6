// For the tests of the delta form's operators: every instruction set in turn, sets of variants of awkward
// shapes, and what rounding may do to a value.
#pragma once

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <string>

#include "core/random.h"
#include "kernels/delta.h"
#include "kernels/simd.h"

namespace ltrp::test {

constexpr double kUlp = 5.9604644775390625e-8;  // 2^-24: half a step of a float32, relative

class SimdLevelGuard {
 public:
  SimdLevelGuard() : before_(simd_level()) {}
  ~SimdLevelGuard() { set_simd_level(before_); }
  SimdLevelGuard(const SimdLevelGuard&) = delete;
  SimdLevelGuard& operator=(const SimdLevelGuard&) = delete;

 private:
  SimdLevel before_;
};

// Calls body() at each instruction set that this processor has.
template <typename Body>
void at_every_level(Body body) {
  const SimdLevelGuard guard;
  for (const SimdLevel level : available_simd_levels()) {
    const std::string name(simd_level_name(level));
    CAPTURE(name);
    set_simd_level(level);
    body();
  }
}

inline at::Tensor doubles(const at::Tensor& x) { return x.to(at::kDouble); }

inline at::Tensor normal(at::IntArrayRef shape, uint64_t seed, double scale = 1, double mean = 0) {
  return at::empty(shape, at::kFloat).normal_(0, 1, generator_for(seed, 21)).mul_(scale).add_(mean);
}

inline at::Tensor random_ids(int64_t below, at::IntArrayRef shape, uint64_t seed) {
  return at::empty(shape, at::kLong).random_(0, below, generator_for(seed, 22)).to(at::kInt);
}

// `count` different ids of [0, below), in random order.
inline at::Tensor distinct_ids(int64_t below, int64_t count, uint64_t seed) {
  return at::randperm(below, generator_for(seed, 23)).slice(0, 0, count).to(at::kInt);
}

// Variants of random images, not in their order; with `queries` > 0 only that many tokens have rows.
inline VariantSet variant_set(int64_t images, int64_t variants, int64_t tokens, int64_t queries,
                              uint64_t seed) {
  VariantSet set;
  set.variants = variants;
  set.tokens = tokens;
  set.image = random_ids(images, {variants}, seed);
  if (queries > 0) {
    std::vector<at::Tensor> lists;
    for (int64_t i = 0; i < images; ++i) {
      lists.push_back(
          std::get<0>(distinct_ids(tokens, queries, seed + 100 + static_cast<uint64_t>(i)).sort()));
    }
    set.queries = at::stack(lists);
  }
  return set;
}

// Widths of rows below, at and beyond whole vectors; sets of variants of awkward shapes.
inline const std::vector<int64_t> kWidths{1, 3, 15, 16, 17, 33, 100};
struct SetShape {
  int64_t images, variants, tokens, queries;
};
inline const std::vector<SetShape> kSetShapes{{1, 1, 1, 0}, {3, 5, 4, 0}, {2, 3, 7, 3}, {1, 1, 2, 1}};

// The token of each row of the set, [m, slots], and the anchor's row that it differs from, [rows]; int64.
inline at::Tensor tokens_of_rows(const VariantSet& set) {
  return set.queries.defined() ? set.queries.index_select(0, set.image).to(at::kLong)
                               : at::arange(set.tokens, at::kLong).expand({set.variants, set.tokens});
}
inline at::Tensor anchor_of_rows(const VariantSet& set) {
  return (tokens_of_rows(set) + set.image.to(at::kLong).unsqueeze(1) * set.tokens).reshape({-1});
}

// The ids that a range of rows stands for, int64.
inline at::Tensor ids_of(const RowRange& range) {
  return range.ids.defined() ? range.ids.slice(0, range.begin, range.end).to(at::kLong)
                             : at::arange(range.begin, range.end, at::kLong);
}

// All rows, some rows, a list of rows, part of a list.
inline std::vector<RowRange> ranges_of(int64_t rows, uint64_t seed) {
  const at::Tensor ids = distinct_ids(rows, (rows + 1) / 2, seed);
  return {{0, rows, {}}, {rows / 3, rows, {}}, {0, ids.size(0), ids}, {ids.size(0) / 3, ids.size(0), ids}};
}

// A product as the operators read it, exact: bfloat16 values, with a scale per row or without, or float32.
enum class ProductKind { kFloat32, kBfloat16, kScaledBfloat16 };
inline ProductRows product_rows(const at::Tensor& x, ProductKind kind, uint64_t seed) {
  if (kind == ProductKind::kFloat32) return {x.contiguous(), {}};
  ProductRows result{x.to(at::kBFloat16).contiguous(), {}};
  if (kind == ProductKind::kScaledBfloat16) {
    result.scale = at::empty({x.size(0)}, at::kFloat).uniform_(0.01, 2, generator_for(seed, 24));
  }
  return result;
}
inline at::Tensor value_of(const ProductRows& product) {
  const at::Tensor values = doubles(product.values);
  return product.scale.defined() ? values * doubles(product.scale).unsqueeze(1) : values;
}

inline at::Tensor value_of(const RoundedRows& rows) {
  if (rows.scale.defined()) {
    return (doubles(rows.values) - static_cast<double>(rows.zero_point)) * doubles(rows.scale).unsqueeze(1);
  }
  return doubles(rows.values);
}

// Sums of K products in float32, in an order of the library's own.
inline at::Tensor sum_tolerance(const at::Tensor& x, const at::Tensor& w) {
  return kUlp * (8 + static_cast<double>(x.size(1)) / 4) * x.abs().matmul(w.abs().t());
}

// By how much a value may differ from `exact` [R, W] after rounding to `precision`. bfloat16: half a step,
// which is at most 2^-8 of the value (8 bits; its smallest step is 2^-133). int8: half a step of the row's
// largest magnitude / 127; a row below 1e-36 may as well be zero.
inline at::Tensor rounding_of(const at::Tensor& exact, Precision precision) {
  if (precision == Precision::kFloat32) return exact.abs() * kUlp;
  if (precision == Precision::kBfloat16) return (exact.abs() / 256).clamp_min(4.6e-41);
  const at::Tensor most = exact.abs().amax(1, /*keepdim=*/true);
  return at::where(most > 1e-36, most * (0.5001 / 127), most * 1.001).expand_as(exact);
}

// Checks rows of an operator: `tolerance` [R, 1] or [R, W] is what float32 arithmetic may do before the
// rounding.
inline void check_rows(const RoundedRows& got, const at::Tensor& exact, const at::Tensor& tolerance,
                       Precision precision) {
  REQUIRE(got.values.sizes() == exact.sizes());
  const at::Tensor allowed = rounding_of(exact, precision) + tolerance * 1.01;
  const at::Tensor error = (value_of(got) - exact).abs();
  const double excess = (error / allowed.clamp_min(1e-300)).nan_to_num(1e300, 1e300).max().item<double>();
  CHECK(excess <= 1);
}

inline const std::vector<Precision>& all_precisions() {
  static const std::vector<Precision> precisions{Precision::kFloat32, Precision::kBfloat16, Precision::kInt8};
  return precisions;
}

}  // namespace ltrp::test
