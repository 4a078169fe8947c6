// RandAugment against Pillow's pictures, its levels, and what it draws.
#include "core/training/rand_augment.h"

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include "core/checkpoint/safetensors.h"
#include "core/random.h"
#include "core/training/augment.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

constexpr std::array<uint8_t, 3> kFill{124, 116, 104};

BytePicture view_of(const at::Tensor& picture) {
  return {picture.mutable_data_ptr<uint8_t>(), picture.size(0), picture.size(1)};
}

TEST_CASE("every change is Pillow's") {
  const TensorMap expected =
      read_safetensors(LTRP_SOURCE_DIR "/test/fixtures/rand-augment.safetensors").tensors;
  for (const auto& [name, picture] : expected) {
    if (name == "input") continue;
    CAPTURE(name);
    const size_t space = name.find(' ');
    const at::Tensor changed = expected.at("input").clone();
    apply_change(value_of<PictureChange>("change", name.substr(0, space), name),
                 std::stod(name.substr(space)), view_of(changed), kFill);
    CHECK(at::equal(changed, picture));
  }
  CHECK(expected.size() == 38);
}

TEST_CASE("levels: what a magnitude means") {
  const auto argument = [](PictureChange change, double magnitude, bool negative = false) {
    return doctest::Approx(change_argument(change, magnitude, negative)).epsilon(1e-12);
  };
  CHECK(27 == argument(PictureChange::kRotate, 9));
  CHECK(-15 == argument(PictureChange::kRotate, 5, true));
  CHECK(1 == argument(PictureChange::kPosterize, 9));
  CHECK(0 == argument(PictureChange::kPosterize, 10));
  CHECK(4 == argument(PictureChange::kPosterize, 2.4));
  CHECK(26 == argument(PictureChange::kSolarize, 9));
  CHECK(99 == argument(PictureChange::kSolarizeAdd, 9));
  for (const auto change : {PictureChange::kColour, PictureChange::kContrast, PictureChange::kBrightness,
                            PictureChange::kSharpness}) {
    CHECK(1.81 == argument(change, 9));
    CHECK(0.19 == argument(change, 9, true));
    CHECK(0.1 == argument(change, 10, true));
  }
  CHECK(0.27 == argument(PictureChange::kShearX, 9));
  CHECK(-0.405 == argument(PictureChange::kTranslateY, 9, true));
}

TEST_CASE("half of the changes are made, by the picture's number alone, and few pictures turn black") {
  const at::Tensor given = at::randint(0, 256, {12, 10, 3}, generator_for(1, 2), at::kByte);
  int same = 0, black = 0;
  for (uint64_t i = 0; i < 2000; ++i) {
    const at::Tensor picture = given.clone(), again = given.clone();
    rand_augment(10, view_of(picture), kFill, generator_for(5, i));
    rand_augment(10, view_of(again), kFill, generator_for(5, i));
    CHECK(at::equal(picture, again));
    same += at::equal(picture, given) ? 1 : 0;
    black += picture.max().item<uint8_t>() == 0 ? 1 : 0;
  }
  // Of those that are darkened first. Were posterizing to leave no bit, it would be 60.
  CHECK(black < 10);
  // A quarter, and those that change nothing of these values.
  CHECK(same > 450);
  CHECK(same < 800);
  for (const int64_t side : {1, 2}) {
    for (uint64_t i = 0; i < 200; ++i) {
      const at::Tensor tiny = at::full({side, side, 3}, 7, at::kByte);
      rand_augment(10, view_of(tiny), kFill, generator_for(6, i));
    }
  }
}

TEST_CASE("crops are changed before they are normalised, whatever batch they are in") {
  const Pictures pictures(6, 40, 48, 3);
  const CropOptions plain{0.5, 1, true}, changed{0.5, 1, true, 9};
  const std::array<double, 3> mean{0.4, 0.5, 0.6}, std{0.2, 0.3, 0.25};
  const auto crops = [&](const CropOptions& options, size_t first, size_t count) {
    return augment(std::span(pictures.views()).subspan(first, count), 24, 32, options, mean, std, 4, first);
  };
  const at::Tensor all = crops(changed, 0, 6);
  CHECK(at::equal(crops(changed, 2, 3), all.slice(0, 2, 5)));
  CHECK_FALSE(at::equal(crops(plain, 0, 6), all));
  CHECK(at::isfinite(all).all().item<bool>());
}

}  // namespace
}  // namespace ltrp::test
