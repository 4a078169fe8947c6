#include "core/engine/selection.h"
#include "core/engine/density_peaks.h"

#include <ATen/ATen.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <set>

#include "core/error.h"
#include "kernels/pixels.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

SelectionOptions options_for(int64_t keep) {
  SelectionOptions options;
  options.keep = keep;
  options.patch_size = 8;
  options.score_share = 0.7;
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
  // Nine patches that may be chosen.
  logits.slice(1, 0, 3).fill_(-INFINITY);
  CHECK_NOTHROW(select_patches(images, logits, options_for(9), {}));
  CHECK_THROWS_AS(select_patches(images, logits, options_for(10), {}), Error);
}

TEST_CASE("patches with -infinity are as if they were not there") {
  // Seven of twelve patches, others in each image; the same patches as the left column of an image of 7 x 1.
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 1, at::kFloat),
                   logits = random_tensor({2, 12}, 2, at::kFloat) - 9,
                   noise = random_tensor({2, 12}, 3, at::kFloat).abs();
  const at::Tensor ids = at::tensor({0, 2, 3, 6, 7, 10, 11, 1, 2, 4, 5, 8, 9, 11}, at::kLong).view({2, 7});
  const at::Tensor some = at::full_like(logits, -INFINITY).scatter(1, ids, logits.gather(1, ids));
  at::Tensor column = at::empty({2, 3, 56, 8}, at::kFloat);
  for (int64_t image = 0; image < 2; ++image) {
    for (int64_t i = 0; i < 7; ++i) {
      const auto id = ids[image][i].item<int64_t>();
      column[image]
          .narrow(1, i * 8, 8)
          .copy_(images[image].narrow(1, id / 4 * 8, 8).narrow(2, id % 4 * 8, 8));
    }
  }
  for (int64_t keep = 1; keep <= 7; ++keep) {
    for (const bool compat : {false, true}) {
      for (const double share : {0.0, 0.7, 1.0}) {
        SelectionOptions options = options_for(keep);
        options.compat = compat;
        options.score_share = share;
        options.density_noise = options.member_noise = noise;
        const at::Tensor got = select_patches(images, some, options, {});
        options.density_noise = options.member_noise = noise.gather(1, ids);
        const at::Tensor want = ids.gather(1, select_patches(column, logits.gather(1, ids), options, {}));
        CHECK(at::equal(got, want));
      }
    }
  }
}

// What select_patches() does for one image with all distances at once.
std::vector<int64_t> at_once(const at::Tensor& image, const at::Tensor& noise, int64_t keep) {
  const at::Tensor patches = patchify_channels_last(image, 8);
  const at::Tensor distance =
      at::cdist(patches, patches)[0] / std::sqrt(static_cast<double>(patches.size(2)));
  const at::Tensor nearest = std::get<0>(distance.topk(5, -1, /*largest=*/false));
  const at::Tensor density = (-nearest.square().mean(-1)).exp() + noise[0] * 1e-6;
  const at::Tensor denser = density.unsqueeze(0).gt(density.unsqueeze(1));
  const at::Tensor louder = density.unsqueeze(0)
                                .eq(density.unsqueeze(1))
                                .logical_and(noise[0].unsqueeze(0).gt(noise[0].unsqueeze(1)));
  const at::Tensor separation =
      std::get<0>(at::where(denser.logical_or(louder), distance, distance.max()).min(-1));
  const at::Tensor centres = std::get<1>((separation * density).topk(keep));
  std::vector<int64_t> ids = row(centres.unsqueeze(0), 0);
  std::sort(ids.begin(), ids.end());
  return ids;
}

TEST_CASE("distances of a large image a few rows at a time: the clusters of all distances at once") {
  // 2,304 and 4,096 patches; pieces of 4 MiB distances are 1,820 and 1,024 rows.
  for (const int64_t side : {48, 64}) {
    const int64_t patches = side * side;
    // Pictures are smooth: patches near each other are alike.
    const at::Tensor image = at::upsample_bilinear2d(random_tensor({1, 3, side, side}, 1, at::kFloat),
                                                     {side * 8, side * 8}, false),
                     noise = at::rand({1, patches}, generator_for(2, 0));
    SelectionOptions options = options_for(patches / 2);
    options.score_share = 0;
    options.density_noise = noise;
    const at::Tensor kept = select_patches(image, at::zeros({1, patches}), options, {});
    CHECK(row(kept, 0) == at_once(image, noise, patches / 2));
  }
}

TEST_CASE("of equal patches, such as those of a border, clusters keep one") {
  // 14 x 14 patches; the lower half is of one colour.
  at::Tensor image = random_tensor({1, 3, 112, 112}, 1, at::kFloat);
  image.slice(2, 56).fill_(0.7);
  for (int seed = 0; seed < 5; ++seed) {
    SelectionOptions options = options_for(30);
    options.score_share = 0;
    options.density_noise = at::rand({1, 196}, generator_for(seed, 0));
    for (const bool silent : {false, true}) {
      if (silent) options.density_noise->zero_();
      const std::vector<int64_t> kept = row(select_patches(image, at::zeros({1, 196}), options, {}), 0);
      CHECK(std::count_if(kept.begin(), kept.end(), [](int64_t id) { return id >= 98; }) == 1);
    }
  }
}

// Bytes that this thread's tensors take, and the most that they took.
struct MemoryMeter : c10::MemoryReportingInfoBase {
  int64_t now = 0, peak = 0;
  void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device) override {
    now += bytes;
    peak = std::max(peak, now);
  }
  bool memoryProfilingEnabled() const override { return true; }
};

TEST_CASE("one large image takes memory for some rows of distances, and is given up between them") {
  // 9,216 patches: all distances are 340 MB.
  const at::Tensor patches = random_tensor({1, 9216, 192}, 1, at::kFloat), noise = at::zeros({1, 9216});
  const auto meter = std::make_shared<MemoryMeter>();
  int polls = 0;
  {
    const c10::DebugInfoGuard metered(c10::DebugInfoKind::PROFILER_STATE, meter);
    density_peaks(patches, noise, 4608, Ties::kByNoise, [&] { ++polls; });
  }
  CHECK(meter->peak > int64_t{16} << 20);
  CHECK(meter->peak < (int64_t{64} << 20) + 3 * static_cast<int64_t>(patches.nbytes()));
  CHECK(polls > 30);
  const int last = polls - 1;
  polls = 0;
  const auto stop = [&] {
    if (++polls == last) throw Error(codes::kCancelled, "");
  };
  CHECK_THROWS_AS(density_peaks(patches, noise, 4608, Ties::kByNoise, stop), Error);
  CHECK(polls == last);
}

}  // namespace
}  // namespace ltrp::test
