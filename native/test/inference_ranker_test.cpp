// Rankers for inference: every precision against float64.
#include "core/engine/inference_ranker.h"

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>

#include "core/device/precision.h"
#include "core/engine/agreement.h"
#include "core/engine/masking.h"
#include "core/engine/teacher.h"
#include "core/error.h"
#include "test/core_support.h"
#include "test/delta_support.h"

namespace ltrp::test {
namespace {

// A ranker of a size that has an order to lose: 10 x 12 patches of 8 pixels, four blocks.
RankerConfig larger_config(RankerHead head) {
  RankerConfig config;
  config.image_height = 80;
  config.image_width = 96;
  config.patch_size = 8;
  config.encoder = {72, 4, 3, 200};
  config.head = head;
  return config;
}

RankerCheckpoint checkpoint_of(const RankerConfig& config) {
  return {config, perturbed(PatchRanker::initialized(config, 2).tensors(), 2), "ltrp"};
}

InferenceRanker frozen(const RankerCheckpoint& checkpoint, Precision precision) {
  return {PatchRanker(checkpoint), precision};
}

// What logits may be off by, of their spread over an image.
double tolerance_of(Precision precision) {
  return precision == Precision::kFloat32 ? 1e-5 : precision == Precision::kBfloat16 ? 0.03 : 0.1;
}

double error_of(const at::Tensor& got, const at::Tensor& exact) {
  return largest_difference(got.to(at::kDouble), exact) / exact.std().item<double>();
}

TEST_CASE("logits of every precision agree with float64: both heads, visible subsets, other grids") {
  at_every_level([] {
    for (const RankerHead head : {RankerHead::kCls, RankerHead::kToken}) {
      const RankerCheckpoint checkpoint = checkpoint_of(larger_config(head));
      const PatchRanker exact(checkpoint, at::kDouble);
      const at::Tensor images = random_tensor({3, 3, 80, 96}, 1, at::kFloat);
      const at::Tensor visible = visible_from_noise(masking_noise(3, 120, 3), 70);
      const at::Tensor other = random_tensor({3, 3, 40, 136}, 2, at::kFloat);
      for (const Precision precision : all_precisions()) {
        const InferenceRanker ranker = frozen(checkpoint, precision);
        const double tolerance = tolerance_of(ranker.precision());
        CAPTURE(static_cast<int>(precision));
        const at::Tensor all = ranker.logits(images, {}, {});
        CHECK(error_of(all, exact.forward(images)) < tolerance);
        if (precision == Precision::kFloat32) {
          CHECK(error_of(PatchRanker(checkpoint).forward(images), exact.forward(images)) < tolerance);
        }
        const at::Tensor some = ranker.logits(images, visible, {});
        CHECK(error_of(some.gather(1, visible), exact.forward(images, visible).gather(1, visible)) <
              tolerance);
        // The 50 others rank behind.
        CHECK(some.eq(-INFINITY).sum(1).eq(50).all().item<bool>());
        if (head == RankerHead::kCls) {
          CHECK_THROWS_AS(ranker.logits(other, {}, {}), Error);
        } else {
          CHECK(error_of(ranker.logits(other, {}, {}), exact.forward(other)) < tolerance);
        }
      }
    }
  });
}

TEST_CASE("rounding is really done, and finer with bfloat16 than with int8") {
  const RankerCheckpoint checkpoint = checkpoint_of(larger_config(RankerHead::kToken));
  const at::Tensor images = random_tensor({4, 3, 80, 96}, 1, at::kFloat);
  const at::Tensor exact = PatchRanker(checkpoint, at::kDouble).forward(images);
  std::vector<double> errors;
  for (const Precision precision : all_precisions()) {
    const InferenceRanker ranker = frozen(checkpoint, precision);
    if (ranker.precision() != precision) {
      MESSAGE("skipped: this processor has no fast products of that precision");
      return;
    }
    errors.push_back((ranker.logits(images, {}, {}).to(at::kDouble) - exact).abs().mean().item<double>());
  }
  CHECK(errors[1] > 10 * errors[0]);
  CHECK(errors[2] > 1.5 * errors[1]);
}

TEST_CASE("an image's logits do not depend on the batch") {
  for (const RankerHead head : {RankerHead::kCls, RankerHead::kToken}) {
    const RankerCheckpoint checkpoint = checkpoint_of(small_ranker_config(head));
    // 3 x 4 patches: many images make a task. 37 leave a rest behind the whole rounds of tasks.
    const at::Tensor images = random_tensor({37, 3, 24, 32}, 1, at::kFloat);
    const at::Tensor visible = visible_from_noise(masking_noise(37, 12, 3), 5);
    for (const Precision precision : all_precisions()) {
      const InferenceRanker ranker = frozen(checkpoint, precision);
      const at::Tensor all = ranker.logits(images, {}, {}), some = ranker.logits(images, visible, {});
      for (const int64_t i : {0, 5, 19, 35, 36}) {
        const at::Tensor alone = ranker.logits(images.narrow(0, i, 1), {}, {});
        CHECK(largest_difference(alone, all.narrow(0, i, 1)) < 1e-5);
        const at::Tensor ids = visible.narrow(0, i, 1);
        CHECK(largest_difference(ranker.logits(images.narrow(0, i, 1), ids, {}).gather(1, ids),
                                 some.narrow(0, i, 1).gather(1, ids)) < 1e-5);
      }
    }
  }
}

TEST_CASE("images whose rows threads share: as alone on one thread, and as float64 has them") {
  for (const RankerHead head : {RankerHead::kCls, RankerHead::kToken}) {
    const RankerCheckpoint checkpoint = checkpoint_of(larger_config(head));
    const PatchRanker exact(checkpoint, at::kDouble);
    // 121 and 74 tokens: the parts of 2, 3 and 5 threads are uneven, and with more than one image they begin
    // within images.
    const at::Tensor images = random_tensor({4, 3, 80, 96}, 1, at::kFloat);
    const at::Tensor visible = visible_from_noise(masking_noise(4, 120, 3), 73);
    for (const Precision precision : all_precisions()) {
      const InferenceRanker ranker = frozen(checkpoint, precision);
      for (const bool some : {false, true}) {
        // Patches that did not go in have -infinity.
        const auto of_those_in = [&](const at::Tensor& logits) {
          return some ? logits.gather(1, visible.narrow(0, 0, logits.size(0))) : logits;
        };
        const at::Tensor expected =
            of_those_in(exact.forward(images, some ? std::optional<at::Tensor>(visible) : std::nullopt));
        for (const int64_t n : {1, 2, 4}) {
          const auto logits_with = [&](int threads) {
            const ThreadCount set(threads);
            return ranker.logits(images.narrow(0, 0, n),
                                 some ? std::optional<at::Tensor>(visible.narrow(0, 0, n)) : std::nullopt,
                                 {});
          };
          const at::Tensor alone = of_those_in(logits_with(1));
          for (const int threads : {2, 3, 5, 64}) {
            CAPTURE(threads);
            CAPTURE(n);
            CAPTURE(static_cast<int>(precision));
            const at::Tensor all = logits_with(threads), shared = of_those_in(all);
            // A product's sums may be taken in another order for another number of rows; from there a value
            // may be rounded the other way.
            const double spread = expected.std().item<double>();
            CHECK(largest_difference(shared, alone) < spread * (ranker.precision() == Precision::kFloat32
                                                                    ? 1e-5
                                                                    : tolerance_of(ranker.precision()) / 2));
            CHECK(error_of(shared, expected.narrow(0, 0, n)) < tolerance_of(ranker.precision()));
            CHECK((all > -INFINITY).sum().item<int64_t>() == n * (some ? 73 : 120));
          }
        }
      }
    }
  }
}

TEST_CASE("a call that threads share is cancelled between its stages") {
  const InferenceRanker ranker =
      frozen(checkpoint_of(larger_config(RankerHead::kToken)), Precision::kFloat32);
  const at::Tensor image = random_tensor({1, 3, 80, 96}, 1, at::kFloat);
  const ThreadCount set(3);
  const at::Tensor expected = ranker.logits(image, {}, {});
  int64_t stopped = 0;
  for (int64_t i = 0; i < 200; ++i) {
    // Cancelled from another thread, sooner or later.
    std::atomic<bool> cancelled{false};
    std::thread other([&cancelled, i] {
      std::this_thread::sleep_for(std::chrono::microseconds(i * 10));
      cancelled = true;
    });
    try {
      const at::Tensor got = ranker.logits(image, {}, RunContext(&cancelled, nullptr));
      CHECK(largest_difference(got, expected) < 1e-5);
    } catch (const Error& error) {
      CHECK(std::string(error.code()) == codes::kCancelled);
      ++stopped;
    }
    other.join();
  }
  CHECK(stopped > 0);
}

TEST_CASE("the embedded ranker keeps its order in every precision") {
  const std::string path = LTRP_SOURCE_DIR "/models/tiny-ranker.safetensors";
  const RankerCheckpoint checkpoint = load_checkpoint<RankerConfig>(path);
  const Pictures pictures(4, 224, 224, 5);
  std::vector<at::Tensor> rows;
  for (const Picture& picture : pictures.views()) {
    const at::Tensor bytes = at::from_blob(const_cast<uint8_t*>(picture.pixels), {224, 224, 3}, at::kByte);
    rows.push_back((bytes.to(at::kFloat).div(255) - 0.45).div(0.225).permute({2, 0, 1}));
  }
  const at::Tensor images = at::stack(rows).contiguous();
  const at::Tensor exact = PatchRanker(checkpoint, at::kDouble).forward(images);
  for (const Precision precision : all_precisions()) {
    CAPTURE(static_cast<int>(precision));
    const at::Tensor got = frozen(checkpoint, precision).logits(images, {}, {});
    const double tau = kendall_tau(got.to(at::kDouble), exact).min().item<double>();
    // Of logits the same is asked as of scores.
    CHECK(tau > (precision == Precision::kFloat32    ? 0.9999
                 : precision == Precision::kBfloat16 ? 0.99
                                                     : 0.98));
  }
}

TEST_CASE("a cancelled call stops; progress ends with all images") {
  const InferenceRanker ranker =
      frozen(checkpoint_of(small_ranker_config(RankerHead::kToken)), Precision::kInt8);
  const at::Tensor images = random_tensor({9, 3, 24, 32}, 1, at::kFloat);
  const std::atomic<bool> cancelled{true};
  CHECK_THROWS_AS(ranker.logits(images, {}, RunContext(&cancelled, nullptr)), Error);
  int64_t last = 0;
  ranker.logits(images, {}, RunContext(nullptr, [&](int64_t done, int64_t total) {
                  CHECK(done <= total);
                  last = done;
                }));
  CHECK(last == 9);
}

TEST_CASE("weights are held once") {
  const RankerCheckpoint checkpoint = checkpoint_of(larger_config(RankerHead::kToken));
  const int64_t full = PatchRanker(checkpoint).weight_bytes();
  CHECK(frozen(checkpoint, Precision::kFloat32).weight_bytes() == full);
  if (effective_precision(Precision::kInt8) == Precision::kInt8) {
    CHECK(frozen(checkpoint, Precision::kInt8).weight_bytes() < full / 2);
  }
}

}  // namespace
}  // namespace ltrp::test
