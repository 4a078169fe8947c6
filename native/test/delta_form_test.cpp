// The delta form against the direct form in float64, on small models with random weights.
//
// Bounds of the mean relative error of a change's size. float32: 1e-5, a few ulp of sums. bfloat16 and int8:
// one rounded value is off by up to 2^-8 or by half of 1/127 of its row's maximum, some 0.2% or 0.6% of a
// typical value (root mean square). The errors of many values average out, but these models are narrow (8 to
// 32 wide) and score over few patches, and every block adds its own. ViT's widths come out some ten times
// better: see delta_teacher_test.cpp.
#include <doctest/doctest.h>

#include "test/delta_form_support.h"

namespace ltrp::test {
namespace {

double bound_of(Precision precision) {
  return precision == Precision::kFloat32 ? 1e-5 : precision == Precision::kBfloat16 ? 0.008 : 0.02;
}

const std::vector<Drop> kDrops{Drop::kDecoder, Drop::kEncoder, Drop::kBoth};
const std::vector<Metric> kMetrics{Metric::kL1, Metric::kL2, Metric::kPsnr, Metric::kSsim, Metric::kReach};

LeaveOneOutOptions options_of(Drop drop, Metric metric, int64_t budget = int64_t{512} << 20) {
  LeaveOneOutOptions options;
  options.drop = drop;
  options.metric = metric;
  options.memory_budget = budget;
  return options;
}

at::Tensor random_images(int64_t n, int64_t height, int64_t width, uint64_t seed) {
  return random_tensor({n, 3, height, width}, seed, at::kFloat);
}
at::Tensor random_visible(int64_t n, int64_t patches, int64_t count, uint64_t seed) {
  return visible_from_noise(masking_noise(n, patches, seed), count);
}

// The error is relative to the value, except that 1 - ssim in float32 is left with 1e-7 of one.
double error_of(const at::Tensor& got, const at::Tensor& want, Metric metric) {
  const at::Tensor a = size_of_change(got, metric), b = size_of_change(want, metric);
  if (metric != Metric::kSsim) return mean_relative_error(a, b);
  return ((a - b).abs() - 5e-7).clamp_min(0).div(b).mean().item<double>();
}

TEST_CASE("the delta form gives the direct form's values, for every drop, metric and precision") {
  for (const Precision precision : precisions_here()) {
    uint64_t seed = 0;
    // The model's own grid and another, neither square; several images share a group.
    for (const auto& [height, width] : {std::pair<int64_t, int64_t>{24, 32}, {40, 16}}) {
      const Delta delta(random_mae(small_mae_config(), ++seed), precision);
      const int64_t patches = height * width / 64;
      const at::Tensor images = random_images(3, height, width, seed + 10);
      const at::Tensor visible = random_visible(3, patches, 4, seed);
      for (const Drop drop : kDrops) {
        for (const Metric metric : kMetrics) {
          const std::string what = name_of(precision) + ", " + name_of(drop) + ", " + name_of(metric);
          CAPTURE(what);
          const LeaveOneOutOptions options = options_of(drop, metric);
          const at::Tensor got = delta.metric(images, visible, options);
          REQUIRE(got.sizes() == at::IntArrayRef({3, 4}));
          CHECK((got.scalar_type() == at::kFloat));
          CHECK(error_of(got, delta.exact(images, visible, options), metric) < bound_of(precision));
        }
      }
    }
  }
}

struct Random {
  uint64_t seed, calls = 0;
  int64_t from(int64_t low, int64_t high) {
    return at::empty({1}, at::kLong).random_(low, high + 1, generator_for(seed, ++calls)).item<int64_t>();
  }
};

MaeConfig random_config(Random& random) {
  MaeConfig config;
  config.patch_size = random.from(2, 5);
  // At least 11 pixels, which is SSIM's window.
  config.image_height = config.patch_size * random.from(11 / config.patch_size + 1, 7);
  config.image_width = config.patch_size * random.from(11 / config.patch_size + 1, 7);
  const auto stack = [&random] {
    const int64_t heads = random.from(1, 4);
    return TransformerConfig{heads * 4 * random.from(1, heads == 1 ? 4 : 2), random.from(1, 3), heads,
                             random.from(7, 50)};
  };
  config.encoder = stack();
  config.decoder = stack();
  return config;
}

TEST_CASE("the delta form on random geometries: depths from one, head sizes from 4, any number of patches") {
  for (const Precision precision : precisions_here()) {
    double sum = 0;
    constexpr uint64_t kGeometries = 12;
    for (uint64_t seed = 0; seed < kGeometries; ++seed) {
      Random random{1000 + seed};
      const MaeConfig config = random_config(random);
      const Delta delta(random_mae(config, seed), precision);
      const int64_t n = random.from(1, 4), patches = config.grid().patches();
      const at::Tensor images = random_images(n, config.image_height, config.image_width, seed);
      const at::Tensor visible = random_visible(n, patches, random.from(2, patches - 1), seed);
      const auto drop = kDrops[static_cast<size_t>(random.from(0, 2))];
      const auto metric = kMetrics[static_cast<size_t>(random.from(0, 3))];
      CAPTURE(seed);
      const std::string what = name_of(precision) + ", " + name_of(drop) + ", " + name_of(metric);
      CAPTURE(what);
      const LeaveOneOutOptions options = options_of(drop, metric);
      const double error =
          error_of(delta.metric(images, visible, options), delta.exact(images, visible, options), metric);
      // A single model may be narrower than any bound expects; float32 has no such excuse.
      CHECK(error < (precision == Precision::kFloat32 ? 1 : 3) * bound_of(precision));
      sum += error;
    }
    CAPTURE(name_of(precision));
    CHECK(sum / static_cast<double>(kGeometries) < bound_of(precision));
  }
}

TEST_CASE("values depend neither on the memory budget nor on the rest of the batch, to the last bit") {
  // Wide enough, and of enough tokens, that the variants of a group make several parts.
  MaeConfig config = small_mae_config();
  config.image_height = 72;
  config.image_width = 80;
  config.decoder = TransformerConfig{128, 2, 4, 60};
  for (const Precision precision : precisions_here()) {
    const Delta delta(random_mae(config, 5), precision);
    const at::Tensor images = random_images(4, 72, 80, 6), visible = random_visible(4, 90, 9, 7);
    for (const Drop drop : kDrops) {
      for (const Metric metric : {Metric::kL1, Metric::kPsnr}) {
        const std::string what = name_of(precision) + ", " + name_of(drop) + ", " + name_of(metric);
        CAPTURE(what);
        const at::Tensor whole = delta.metric(images, visible, options_of(drop, metric));
        for (const int64_t budget : {int64_t{1}, int64_t{3} << 20}) {
          CHECK(whole.equal(delta.metric(images, visible, options_of(drop, metric, budget))));
        }
        for (const int64_t i : {0, 3}) {
          const at::Tensor alone =
              delta.metric(images.slice(0, i, i + 1), visible.slice(0, i, i + 1), options_of(drop, metric));
          CHECK(alone[0].equal(whole[i]));
        }
      }
    }
  }
}

TEST_CASE("a single visible patch, and all but one visible") {
  for (const Precision precision : precisions_here()) {
    const Delta delta(random_mae(small_mae_config(), 3), precision);
    const at::Tensor images = random_images(2, 24, 32, 4);
    for (const int64_t count : {1, 11}) {
      for (const Drop drop : kDrops) {
        if (count == 1 && drop == Drop::kBoth) continue;  // nothing left to encode: refused, see below
        const std::string what = name_of(precision) + ", " + name_of(drop);
        CAPTURE(what);
        CAPTURE(count);
        const at::Tensor visible = random_visible(2, 12, count, 5);
        const LeaveOneOutOptions options = options_of(drop, Metric::kL1);
        CHECK(error_of(delta.metric(images, visible, options), delta.exact(images, visible, options),
                       Metric::kL1) < 2 * bound_of(precision));
      }
    }
  }
}

TEST_CASE("identical patches far apart in value: a black image, a very bright one") {
  for (const Precision precision : precisions_here()) {
    const Delta delta(random_mae(small_mae_config(), 4), precision);
    const at::Tensor images = at::stack({at::zeros({3, 24, 32}), at::full({3, 24, 32}, 1e4)});
    const at::Tensor visible = random_visible(2, 12, 4, 5);
    for (const Drop drop : kDrops) {
      const std::string what = name_of(precision) + ", " + name_of(drop);
      CAPTURE(what);
      const LeaveOneOutOptions options = options_of(drop, Metric::kL1);
      const at::Tensor got = delta.metric(images, visible, options);
      const at::Tensor want = delta.exact(images, visible, options);
      CHECK(error_of(got[0], want[0], Metric::kL1) < 2 * bound_of(precision));
      // float32 itself, in the direct form, has the embedding's digits only.
      CHECK(error_of(got[1], want[1], Metric::kL1) < 2 * bound_of(precision) + 1e-3);
    }
  }
}

TEST_CASE("progress counts variants to their number; a flag raised inside stops the work between two calls") {
  const at::Tensor images = random_images(3, 24, 32, 4), visible = random_visible(3, 12, 4, 1);
  for (const Precision precision : precisions_here()) {
    const Delta delta(random_mae(small_mae_config(), 1), precision);
    for (const Drop drop : kDrops) {
      int64_t last = 0;
      const RunContext watch(nullptr, [&last](int64_t done, int64_t total) {
        CHECK(done > last);
        CHECK(total == 12);
        last = done;
      });
      delta.metric(images, visible, options_of(drop, Metric::kL1, 1), watch);
      CHECK(last == 12);

      std::atomic<bool> cancelled{false};
      last = 0;
      const RunContext stop(&cancelled, [&](int64_t done, int64_t) {
        last = done;
        if (done >= 5) cancelled = true;
      });
      try {
        delta.metric(images, visible, options_of(drop, Metric::kL1, 1), stop);
        FAIL("not cancelled");
      } catch (const Error& error) {
        CHECK(std::string(error.code()) == codes::kCancelled);
      }
      CHECK(last == 5);
    }
  }
}

TEST_CASE("a flag raised inside a stack of blocks ends it on all threads") {
  MaskedAutoencoder model(random_mae(small_mae_config(), 1));
  model.pack();
  const DeltaStack stack(model.decoder(), Precision::kFloat32);
  const StackAnchor anchor = stack.anchor(random_tensor({1, 13, 16}, 2, at::kFloat));
  VariantSet set;
  set.variants = 4000;  // of 13 tokens: several parts
  set.tokens = 13;
  set.image = at::zeros({set.variants}, at::kInt);
  const at::Tensor removed = at::arange(set.variants, at::kInt).remainder(13);
  std::atomic<bool> cancelled{false};
  std::atomic<int64_t> rows{0};
  const auto run = [&](bool stop) {
    stack.differences(
        anchor, set, removed, {}, Precision::kFloat32, 0,
        [&](const RowRange& range, const RoundedRows& values) {
          CHECK(values.values.size(0) == range.size());
          rows += range.size();
          if (stop) cancelled = true;
        },
        RunContext(&cancelled, nullptr));
  };
  run(false);
  CHECK(rows == set.rows());
  rows = 0;
  CHECK_THROWS_AS(run(true), Error);
  CHECK(rows < set.rows());
}

TEST_CASE("a teacher loaded in a low precision scores in the delta form; refusals are the direct form's") {
  const MaeCheckpoint checkpoint = random_mae(small_mae_config(), 6);
  const at::Tensor images = random_images(2, 24, 32, 4), visible = random_visible(2, 12, 4, 1);
  for (const Precision precision : precisions_here()) {
    const Teacher teacher(MaskedAutoencoder(checkpoint), precision);
    CHECK((teacher.precision() == precision));
    CHECK((teacher.delta() == nullptr) == (precision == Precision::kFloat32));
    const at::Tensor got = leave_one_out_scores(teacher, images, visible, {}, {});
    const Delta delta(checkpoint, precision);
    CHECK(error_of(got, delta.exact(images, visible, {}), Metric::kL1) < bound_of(precision));
    if (precision != Precision::kFloat32) CHECK(got.equal(delta.metric(images, visible, {})));
    LeaveOneOutOptions both = options_of(Drop::kBoth, Metric::kL1);
    CHECK_THROWS_AS(leave_one_out_scores(teacher, images, random_visible(2, 12, 1, 1), both, {}), Error);
    CHECK_THROWS_AS(leave_one_out_scores(teacher, images, visible + 12, {}, {}), Error);
  }
}

}  // namespace
}  // namespace ltrp::test
