#include "core/engine/masking.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/error.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

TEST_CASE("the number of visible patches is int(L * (1 - ratio)) in double precision") {
  CHECK(visible_count(196, 0.9) == 19);
  CHECK(visible_count(100, 0.9) == 9);
  CHECK(visible_count(49, 0.9) == 4);
  CHECK(visible_count(196, 0.75) == 49);
  for (const double ratio : {0.0, 1.0, -0.5, 1.5, std::nan(""), 0.999})
    CHECK_THROWS_AS(visible_count(196, ratio), Error);
  CHECK_THROWS_AS(visible_count(1, 0.5), Error);
}

TEST_CASE("noise of an image depends on seed and number, not on the batch") {
  const at::Tensor batch = masking_noise(5, 12, 42);
  CHECK(at::equal(batch.slice(0, 3, 5), masking_noise(2, 12, 42, 3)));
  CHECK_FALSE(at::equal(batch[0], batch[1]));
  CHECK_FALSE(at::equal(batch, masking_noise(5, 12, 43)));
}

TEST_CASE("the smallest noise is visible, in raster order, and the rest is masked") {
  const at::Tensor noise = at::tensor({0.5F, 0.1F, 0.9F, 0.2F, 0.0F, 0.3F, 0.2F, 0.1F}).view({2, 4});
  const at::Tensor visible = visible_from_noise(noise, 2);
  CHECK(at::equal(visible, at::tensor({1, 3, 0, 3}, at::kLong).view({2, 2})));
  CHECK(at::equal(masked_from_visible(visible, 4), at::tensor({0, 2, 1, 2}, at::kLong).view({2, 2})));
}

TEST_CASE("bad ids are refused") {
  const auto ids = [](std::initializer_list<int64_t> values) {
    return at::tensor(at::ArrayRef<int64_t>(values), at::kLong).view({1, -1});
  };
  CHECK_NOTHROW(check_visible(ids({0, 2, 3}), 1, 4));
  for (const auto& bad : {ids({2, 0}), ids({1, 1}), ids({-1, 2}), ids({0, 4}), ids({0, 1, 2, 3})}) {
    CHECK_THROWS_AS(check_visible(bad, 1, 4), Error);
  }
  CHECK_THROWS_AS(check_visible(ids({0, 1}), 2, 4), Error);
}

}  // namespace
}  // namespace ltrp::test
