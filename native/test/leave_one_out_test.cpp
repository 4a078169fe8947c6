#include "core/engine/leave_one_out.h"

#include <ATen/Parallel.h>
#include <doctest/doctest.h>

#include "core/engine/masking.h"
#include "core/engine/score_map.h"
#include "kernels/pixels.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

constexpr int64_t kPatches = 12;

// The authors' loop: one decode after another over all L + 1 tokens, the removed token hidden by an attention
// mask.
at::Tensor looped_scores(const MaskedAutoencoder& model, const at::Tensor& images, const at::Tensor& visible,
                         Drop drop) {
  const Grid grid = model.grid_of(images);
  const at::Tensor masked = masked_from_visible(visible, grid.patches());
  const auto predict = [&](const at::Tensor& tokens, const std::optional<at::Tensor>& hidden) {
    return gather_tokens(model.decoder_pred()(model.decoder().forward(tokens, hidden)), masked + 1);
  };
  const at::Tensor tokens = model.decoder_input(model.encode(images, visible), visible, grid);
  const at::Tensor anchor = predict(tokens, {});
  std::vector<at::Tensor> scores;
  for (int64_t i = 0; i < visible.size(1); ++i) {
    const at::Tensor hidden = visible.select(1, i) + 1;
    at::Tensor input = tokens;
    std::optional<at::Tensor> decoder_hidden = hidden;
    if (drop == Drop::kBoth) {
      const at::Tensor rest = at::cat({visible.slice(1, 0, i), visible.slice(1, i + 1)}, 1);
      input = model.decoder_input(model.encode(images, rest), rest, grid);
    }
    if (drop == Drop::kEncoder) {
      const at::Tensor slot = at::full({images.size(0)}, i, at::kLong);
      input = model.decoder_input(model.encode(images, visible, slot), visible, grid);
      decoder_hidden.reset();
    }
    scores.push_back((predict(input, decoder_hidden) - anchor).abs().mean({1, 2}));
  }
  return at::stack(scores, 1);
}

TEST_CASE(
    "batched deletion equals the loop with an attention mask, for every drop and on a grid of another size") {
  const MaskedAutoencoder model = small_mae();
  for (const auto& [height, width] : {std::pair<int64_t, int64_t>{24, 32}, {40, 16}}) {
    const at::Tensor images = random_tensor({3, 3, height, width}, 3);
    const int64_t patches = height * width / 64;
    const at::Tensor visible = visible_from_noise(masking_noise(3, patches, 9), 4);
    for (const Drop drop : {Drop::kDecoder, Drop::kEncoder, Drop::kBoth}) {
      LeaveOneOutOptions options;
      options.drop = drop;
      const at::Tensor scores = leave_one_out_scores(model, images, visible, options, {});
      CAPTURE(static_cast<int>(drop));
      CHECK(scores.min().item<double>() > 1e-6);
      CHECK(largest_difference(scores, looped_scores(model, images, visible, drop)) < 1e-12);
    }
  }
}

TEST_CASE("scores depend neither on the batch nor on the memory budget") {
  const MaskedAutoencoder model = small_mae();
  const at::Tensor images = random_tensor({5, 3, 24, 32}, 4);
  const at::Tensor visible = visible_from_noise(masking_noise(5, kPatches, 1), 3);
  for (const Metric metric : {Metric::kL1, Metric::kL2}) {
    LeaveOneOutOptions options, tight;
    options.metric = tight.metric = metric;
    tight.memory_budget = 1;
    const at::Tensor scores = leave_one_out_scores(model, images, visible, options, {});
    CHECK(largest_difference(scores, leave_one_out_scores(model, images, visible, tight, {})) < 1e-13);
    for (int64_t i = 0; i < 5; ++i) {
      const at::Tensor alone =
          leave_one_out_scores(model, images.slice(0, i, i + 1), visible.slice(0, i, i + 1), options, {});
      CHECK(largest_difference(scores[i], alone[0]) < 1e-13);
    }
  }
}

TEST_CASE("psnr and ssim become scores in [0, 1] over the batch, both ends reached") {
  const MaskedAutoencoder model = small_mae();
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 4);
  const at::Tensor visible = visible_from_noise(masking_noise(2, kPatches, 1), 4);
  for (const Metric metric : {Metric::kPsnr, Metric::kSsim}) {
    for (const Drop drop : {Drop::kDecoder, Drop::kEncoder, Drop::kBoth}) {
      LeaveOneOutOptions options;
      options.metric = metric;
      options.drop = drop;
      const at::Tensor scores = leave_one_out_scores(model, images, visible, options, {});
      CHECK(scores.min().item<double>() == 0);
      CHECK(scores.max().item<double>() == 1);
      const at::Tensor raw = leave_one_out_metric(model, images, visible, options, {});
      // The largest change is the lowest similarity.
      CHECK(raw.argmin().item<int64_t>() == scores.argmax().item<int64_t>());
    }
  }
}

TEST_CASE("progress reaches its total and a raised flag stops the work") {
  const MaskedAutoencoder model = small_mae(at::kFloat);
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 4, at::kFloat);
  const at::Tensor visible = visible_from_noise(masking_noise(2, kPatches, 1), 4);
  LeaveOneOutOptions options;
  options.memory_budget = 1;
  std::atomic<bool> cancelled{false};
  int64_t last = 0, total = 0;
  const RunContext context(&cancelled, [&](int64_t done, int64_t all) {
    CHECK(done > last);
    last = done;
    total = all;
    if (done == 5) cancelled = true;
  });
  try {
    leave_one_out_scores(model, images, visible, options, context);
    FAIL("not cancelled");
  } catch (const Error& error) {
    CHECK(std::string(error.code()) == codes::kCancelled);
  }
  // What other threads had begun when the flag was raised is still counted.
  CHECK(last >= 5);
  CHECK(last < 5 + at::get_num_threads());
  CHECK(total == 8);
}

TEST_CASE("encoder-only checkpoints and lists too short for 'both' are refused") {
  MaeConfig config = small_mae_config();
  config.decoder.reset();
  const MaskedAutoencoder headless = MaskedAutoencoder::initialized(config, 1);
  const at::Tensor images = random_tensor({1, 3, 24, 32}, 4, at::kFloat);
  const at::Tensor visible = at::tensor({3}, at::kLong).view({1, 1});
  CHECK_THROWS_AS(leave_one_out_scores(headless, images, visible, {}, {}), Error);
  LeaveOneOutOptions both;
  both.drop = Drop::kBoth;
  CHECK_THROWS_AS(leave_one_out_scores(small_mae(at::kFloat), images, visible, both, {}), Error);
}

TEST_CASE("a score map averages the scores of its masks, the same for an image alone or in a batch") {
  const MaskedAutoencoder model = small_mae();
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 8);
  ScoreMapOptions options;
  options.mask_ratio = 0.6;  // 4 of 12 visible: three masks a round, nothing left over
  options.rounds = 1;
  const ScoreMap once = score_map(model, images, options, {});
  CHECK(once.mean.sizes() == at::IntArrayRef({2, 3, 4}));
  CHECK(once.mean.gt(0).all().item<bool>());
  CHECK(once.standard_error.isnan().all().item<bool>());
  options.rounds = 6;
  const ScoreMap map = score_map(model, images, options, {});
  CHECK(map.standard_error.isfinite().all().item<bool>());
  CHECK(largest_difference(map.mean[0], score_map(model, images.slice(0, 0, 1), options, {}).mean[0]) <
        1e-13);
  options.mask_ratio = 0.55;  // 5 of 12: three masks a round, filled up
  CHECK(score_map(model, images, options, {}).mean.isfinite().all().item<bool>());
  options.rounds = 0;
  CHECK_THROWS_AS(score_map(model, images, options, {}), Error);
}

}  // namespace
}  // namespace ltrp::test
