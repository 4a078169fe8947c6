#include "core/engine/prior.h"

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <cmath>

#include "core/engine/selection.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

TEST_CASE("the centre prior: ranks of a grid of 3 x 4 by hand") {
  // Squared distances to (1, 1.5), in sides, are 1/9 + 9/64, 1/9 + 1/64, 9/64 and 1/64: four corners share
  // ranks 0 to 3, the ends of the middle row 4 and 5, the middles of the outer rows 6 to 9, the two in the
  // middle 10, 11.
  const at::Tensor by_place =
      at::tensor({1.5, 7.5, 7.5, 1.5, 4.5, 10.5, 10.5, 4.5, 1.5, 7.5, 7.5, 1.5}, at::kFloat).view({1, 12});
  const at::Tensor rising = at::arange(12, at::kFloat).view({1, 12});
  CHECK(at::equal(with_prior(rising * 1e-3 - 7, {3, 4}, Prior::kCentre, RunContext()), by_place + rising));
  CHECK(at::equal(with_prior(rising, {3, 4}, Prior::kNone, RunContext()), rising));
  // Equal logits share the mean of their ranks as well: a picture without any order is ordered by place.
  CHECK(at::equal(with_prior(at::zeros_like(rising), {3, 4}, Prior::kCentre, RunContext()), by_place + 5.5));
  CHECK(at::equal(with_prior(at::zeros({1, 1}, at::kFloat), {1, 1}, Prior::kCentre, RunContext()),
                  at::zeros({1, 1})));
}

TEST_CASE("the centre prior measures in sides of the picture") {
  // Of 3 x 9 patches: a row up or down is a third of the height, and three columns a third of the width.
  const at::Tensor by_place =
      with_prior(at::zeros({1, 27}, at::kFloat), {3, 9}, Prior::kCentre, RunContext()).view({3, 9});
  CHECK(by_place[0][4].item<float>() == by_place[1][1].item<float>());
  CHECK(by_place[0][4].item<float>() == by_place[1][7].item<float>());
  CHECK(by_place[0][4].item<float>() < by_place[1][2].item<float>());
  const at::Tensor turned =
      with_prior(at::zeros({1, 27}, at::kFloat), {9, 3}, Prior::kCentre, RunContext()).view({9, 3});
  CHECK(at::equal(turned.t(), by_place));
}

TEST_CASE("a mirrored picture has mirrored scores, and an image's are its own") {
  const at::Tensor logits = random_tensor({2, 15}, 1, at::kFloat);
  const at::Tensor scores = with_prior(logits, {3, 5}, Prior::kCentre, RunContext());
  const auto mirrored = [](const at::Tensor& x) { return x.view({2, 3, 5}).flip(2).reshape({2, 15}); };
  CHECK(at::equal(with_prior(mirrored(logits), {3, 5}, Prior::kCentre, RunContext()), mirrored(scores)));
  CHECK(at::equal(with_prior(logits.narrow(0, 1, 1), {3, 5}, Prior::kCentre, RunContext()),
                  scores.narrow(0, 1, 1)));
}

TEST_CASE("patches with -infinity stay out, and the others are ranked without them") {
  at::Tensor logits = random_tensor({1, 12}, 2, at::kFloat);
  logits.slice(1, 0, 4).fill_(-INFINITY);  // the upper row
  const at::Tensor scores = with_prior(logits, {3, 4}, Prior::kCentre, RunContext());
  CHECK(at::equal(scores.slice(1, 0, 4), logits.slice(1, 0, 4)));
  const at::Tensor by_place = at::tensor({2.5, 6.5, 6.5, 2.5, 0.5, 4.5, 4.5, 0.5}, at::kFloat);
  const at::Tensor by_logit = logits[0].slice(0, 4).argsort().argsort().to(at::kFloat);
  CHECK(at::equal(scores[0].slice(0, 4), by_place + by_logit));
}

TEST_CASE("what is selected with the prior is the top by the sum") {
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 1, at::kFloat),
                   logits = random_tensor({2, 12}, 2, at::kFloat);
  SelectionOptions options;
  options.keep = 5;
  options.patch_size = 8;
  options.prior = Prior::kCentre;
  const at::Tensor order =
      with_prior(logits, {3, 4}, Prior::kCentre, RunContext()).argsort(true, 1, true).slice(1, 0, 5);
  CHECK(at::equal(select_patches(images, logits, options, {}), std::get<0>(order.sort(1))));
}

}  // namespace
}  // namespace ltrp::test
