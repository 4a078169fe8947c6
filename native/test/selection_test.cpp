#include "core/engine/selection.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "core/error.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

SelectionOptions options_for(int64_t keep) {
  SelectionOptions options;
  options.keep = keep;
  options.patch_size = 8;
  return options;
}

std::vector<int64_t> row(const at::Tensor& ids, int64_t image) {
  const at::Tensor flat = ids[image].contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

TEST_CASE("every keep gives that many distinct patches in raster order, the best by score among them") {
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 1, at::kFloat),
                   logits = random_tensor({2, 12}, 2, at::kFloat);
  const at::Tensor ranked = logits.argsort(-1, /*descending=*/true);
  for (int64_t keep = 1; keep <= 12; ++keep) {
    for (const bool compat : {false, true}) {
      SelectionOptions options = options_for(keep);
      options.compat = compat;
      const at::Tensor ids = select_patches(images, logits, options, {});
      for (int64_t image = 0; image < 2; ++image) {
        const std::vector<int64_t> kept = row(ids, image);
        CHECK(std::set<int64_t>(kept.begin(), kept.end()).size() == static_cast<size_t>(keep));
        CHECK((compat || std::is_sorted(kept.begin(), kept.end())));
        for (int64_t i = 0; i < static_cast<int64_t>(static_cast<double>(keep) * 0.7); ++i) {
          CHECK(std::find(kept.begin(), kept.end(), ranked[image][i].item<int64_t>()) != kept.end());
        }
      }
    }
  }
}

TEST_CASE("a share of 1 is the plain top, a share of 0 is clusters alone") {
  const at::Tensor images = random_tensor({1, 3, 24, 32}, 1, at::kFloat),
                   logits = at::arange(12, at::kFloat).view({1, 12});
  SelectionOptions options = options_for(4);
  options.score_share = 1;
  const std::vector<int64_t> best{8, 9, 10, 11};
  CHECK(row(select_patches(images, logits, options, {}), 0) == best);
  options.score_share = 0;
  const std::vector<int64_t> clusters = row(select_patches(images, logits, options, {}), 0);
  CHECK(row(select_patches(images, -logits, options, {}), 0) == clusters);
}

TEST_CASE("diverse patches are found where scores say nothing") {
  // Patch 5 is unlike the eleven others: two clusters must separate it.
  at::Tensor images = at::zeros({1, 3, 24, 32}, at::kFloat);
  images.slice(2, 8, 16).slice(3, 8, 16).fill_(3);
  SelectionOptions options = options_for(2);
  options.score_share = 0;
  const std::vector<int64_t> kept =
      row(select_patches(images, at::zeros({1, 12}, at::kFloat), options, {}), 0);
  CHECK(std::find(kept.begin(), kept.end(), 5) != kept.end());
}

TEST_CASE("the seed decides, the batch does not") {
  const at::Tensor images = random_tensor({3, 3, 24, 32}, 1, at::kFloat),
                   logits = random_tensor({3, 12}, 2, at::kFloat);
  SelectionOptions options = options_for(7);
  options.compat = true;
  options.seed = 3;
  const at::Tensor ids = select_patches(images, logits, options, {});
  CHECK(at::equal(ids, select_patches(images, logits, options, {})));
  CHECK(at::equal(ids.slice(0, 0, 1),
                  select_patches(images.slice(0, 0, 1), logits.slice(0, 0, 1), options, {})));
}

TEST_CASE("bad input is refused") {
  const at::Tensor images = random_tensor({1, 3, 24, 32}, 1, at::kFloat);
  at::Tensor logits = random_tensor({1, 12}, 2, at::kFloat);
  CHECK_THROWS_AS(select_patches(images, logits, options_for(0), {}), Error);
  CHECK_THROWS_AS(select_patches(images, logits, options_for(13), {}), Error);
  CHECK_THROWS_AS(select_patches(images, logits.slice(1, 0, 11), options_for(4), {}), Error);
  at::Tensor broken = logits.clone();
  broken[0][3] = std::nanf("");
  CHECK_THROWS_AS(select_patches(images, broken, options_for(4), {}), Error);
  at::Tensor dark = images.clone();
  dark[0][0][0][0] = INFINITY;
  CHECK_THROWS_AS(select_patches(dark, logits, options_for(4), {}), Error);
}

}  // namespace
}  // namespace ltrp::test
