#include "core/engine/keep_list.h"

#include <doctest/doctest.h>

#include <atomic>
#include <vector>

#include "test/core_support.h"

namespace ltrp::test {
namespace {

KeepList arrays(const EncoderGrid& encoder, int64_t keep) {
  const int64_t ids = keep * encoder.merge * encoder.merge;
  return {at::empty({encoder.cells().patches()}, at::kDouble), at::empty({keep}, at::kInt),
          at::empty({ids}, at::kInt), at::empty({ids, 2}, at::kInt), at::empty({encoder.tokens}, at::kInt)};
}

EncoderGrid merged_grid(int64_t rows, int64_t columns) {
  return {.patches = {rows, columns},
          .merge = 2,
          .input_height = static_cast<double>(rows),
          .input_width = static_cast<double>(columns),
          .patch_size = 1,
          .tokens = rows * columns,
          .view = {0, 0, 60, 40}};
}

std::vector<int32_t> values(const at::Tensor& x) {
  return {x.const_data_ptr<int32_t>(), x.const_data_ptr<int32_t>() + x.numel()};
}

TEST_CASE("a merged cell has the mean of the ranks under it, and all of its patches are kept") {
  // Three columns onto two cells: the middle one counts half in each.
  const at::Tensor logits = at::tensor({5.F, 1.F, 9.F}).view({1, 3});
  const EncoderGrid encoder = merged_grid(2, 4);
  const KeepList list = arrays(encoder, 1);
  keep_list(logits, {0, 0, 60, 40}, encoder, list, {});
  CHECK(list.values[0].item<double>() == doctest::Approx(0.5 * 2 / 3).epsilon(1e-12));
  CHECK(list.values[1].item<double>() == doctest::Approx(1.0 * 2 / 3).epsilon(1e-12));
  CHECK(values(list.cells) == std::vector<int32_t>{1});
  CHECK(values(list.ids) == std::vector<int32_t>{4, 5, 6, 7});
  CHECK(values(list.positions) == std::vector<int32_t>{0, 2, 0, 3, 1, 2, 1, 3});
  CHECK(values(list.mask) == std::vector<int32_t>{0, 0, 0, 0, 1, 1, 1, 1});
}

TEST_CASE("large grids stop when they are told to") {
  const EncoderGrid encoder = merged_grid(512, 512);
  const std::atomic<bool> cancelled = true;
  CHECK_THROWS_AS(keep_list(at::zeros({14, 14}), {0, 0, 60, 40}, encoder, arrays(encoder, 1),
                            RunContext(&cancelled, nullptr)),
                  Error);
}

}  // namespace
}  // namespace ltrp::test
