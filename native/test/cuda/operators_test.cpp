// Operators that a CPU makes of LibTorch's and this device has kernels for, as engine and trainers call them.
#include <array>
#include <string>
#include <vector>

#include "core/engine/selection.h"
#include "core/model/decoder_input.h"
#include "core/training/losses.h"
#include "kernels/forward.h"
#include "kernels/pixels.h"
#include "test/core_support.h"
#include "test/cuda/device_tensors.h"
#include "test/cuda/with_cuda.h"

namespace ltrp::test {
namespace {

constexpr std::array<double, 3> kMean{0.485, 0.456, 0.406}, kStd{0.229, 0.224, 0.225};

at::Tensor random_bytes(at::IntArrayRef shape, uint64_t seed) {
  return (uniform(shape, seed) * 256).to(at::kByte);
}

at::Tensor visible_of(int64_t images, int64_t patches, int64_t count, uint64_t seed) {
  return std::get<0>(
      uniform({images, patches}, seed).argsort(/*stable=*/false, 1, false).slice(1, 0, count).sort(1));
}

RemovedTokens every_variant(const at::Tensor& visible) {
  const at::Tensor variant = at::arange(visible.numel(), at::kLong);
  const at::Tensor image = variant.floor_divide(visible.size(1)), slot = variant.remainder(visible.size(1));
  return {image, slot, visible.index({image, slot}) + 1};
}

RemovedTokens there_of(const RemovedTokens& x) {
  return {on_device(x.image), on_device(x.slot), on_device(x.token)};
}

DecoderTokens there_of(const DecoderTokens& x) {
  return {on_device(x.visible), on_device(x.mask_token), on_device(x.positions)};
}

TEST_CASE("bytes become the CPU's pixels and rows, bit for bit") {
  for (const auto& [height, width, patch] : {std::array<int64_t, 3>{32, 48, 16}, {24, 32, 8}, {14, 21, 7}}) {
    const at::Tensor bytes = random_bytes({3, height, width, 3}, 5);
    const at::Tensor pixels = normalize_pixels(bytes, kMean, kStd);
    const at::Tensor ids = visible_of(3, height / patch * (width / patch), 2, 6);
    const at::Tensor rows = patch_rows(pixels, patch, {}, Precision::kFloat32).values;
    const at::Tensor some = patch_rows(pixels, patch, ids, Precision::kFloat32).values;
    const WithCuda with;
    const at::Tensor there = on_device(bytes);
    CHECK(same(on_host(normalize_pixels(there, kMean, kStd)), pixels));
    CHECK(same(on_host(byte_patch_rows(there, kMean, kStd, patch, {}, Precision::kFloat32).values), rows));
    CHECK(
        same(on_host(byte_patch_rows(there, kMean, kStd, patch, on_device(ids), Precision::kFloat32).values),
             some));
  }
}

TEST_CASE("the decoder's input and what variants change of it are LibTorch's, bit for bit") {
  constexpr int64_t kImages = 3, kPatches = 12, kVisible = 4;
  for (const int64_t width : {8, 13, 64}) {
    const at::Tensor visible = visible_of(kImages, kPatches, kVisible, 3);
    const RemovedTokens removed = every_variant(visible);
    const DecoderTokens tokens{visible, uniform({1, 1, width}, 4), uniform({1, kPatches + 1, width}, 5)};
    const int64_t m = removed.image.size(0);
    const at::Tensor embedded = uniform({kImages, kVisible + 1, width}, 6),
                     without = uniform({m, kVisible, width}, 7),
                     difference = uniform({m * (kVisible + 1), width}, 8),
                     rows = uniform({kImages, kPatches + 1, width}, 9);
    std::vector<StartingRows> starts;
    for (const bool gone : {false, true}) {
      for (const bool replaced : {false, true}) {
        if (replaced && !gone) continue;
        starts.push_back({removed.image, gone ? removed.slot : at::Tensor(), difference,
                          replaced ? embedded : at::Tensor()});
      }
    }
    // On a CPU all of it is LibTorch's.
    const at::Tensor input = decoder_input(tokens, embedded),
                     input_without = decoder_input_without(tokens, removed, without),
                     remaining = delete_rows(rows, removed), masked = masked_tokens(visible, kPatches),
                     masked_without = masked_tokens(visible, kPatches, &removed);
    std::vector<at::Tensor> differences;
    for (const StartingRows& start : starts) differences.push_back(starting_difference(tokens, start));
    const WithCuda with;
    const DecoderTokens there = there_of(tokens);
    const RemovedTokens lacking = there_of(removed);
    CHECK(same(on_host(decoder_input(there, on_device(embedded))), input));
    CHECK(same(on_host(decoder_input_without(there, lacking, on_device(without))), input_without));
    CHECK(same(on_host(delete_rows(on_device(rows), lacking)), remaining));
    CHECK(same(on_host(masked_tokens(there.visible, kPatches)).to(at::kLong), masked));
    CHECK(same(on_host(masked_tokens(there.visible, kPatches, &lacking)).to(at::kLong), masked_without));
    const auto on_device_if = [](const at::Tensor& x) { return x.defined() ? on_device(x) : x; };
    for (size_t i = 0; i < starts.size(); ++i) {
      const StartingRows& start = starts[i];
      const StartingRows moved{lacking.image, on_device_if(start.slot), on_device(start.difference),
                               on_device_if(start.embedded)};
      CHECK(same(on_host(starting_difference(there, moved)), differences[i]));
    }
  }
}

TEST_CASE("the decoder's input passes gradients on") {
  const at::Tensor visible = visible_of(2, 6, 2, 3);
  const WithCuda with;
  const DecoderTokens tokens = there_of(DecoderTokens{visible, uniform({1, 1, 8}, 4), uniform({1, 7, 8}, 5)});
  at::Tensor embedded = on_device(uniform({2, 3, 8}, 6));
  embedded.requires_grad_(true);
  decoder_input(tokens, embedded).sum().backward();
  CHECK(same(on_host(embedded.grad()), at::ones({2, 3, 8})));
}

TEST_CASE("ranking losses: value and gradient against float64") {
  const auto graded = [](RankingLoss loss, at::Tensor predicted, const at::Tensor& target,
                         const RankingLossOptions& options) {
    predicted.requires_grad_(true);
    const at::Tensor value = ranking_loss(loss, predicted, target, options);
    (value * 3).backward();
    return std::pair{on_host(value.detach()), on_host(predicted.grad())};
  };
  for (const RankingLoss loss : {RankingLoss::kPointWise, RankingLoss::kListNet, RankingLoss::kListMle,
                                 RankingLoss::kRankNet, RankingLoss::kFocusedRank}) {
    for (const auto& [lists, items] : {std::pair<int64_t, int64_t>{1, 1}, {3, 2}, {4, 19}, {2, 49}}) {
      for (const bool some : {false, true}) {
        if (!some && loss == RankingLoss::kFocusedRank) continue;
        CAPTURE(static_cast<int>(loss));
        CAPTURE(items);
        RankingLossOptions options;
        if (some) options.k = std::max<int64_t>(1, items / 2);
        options.seed = 11;
        const at::Tensor target = uniform({lists, items}, 5), predicted = uniform({lists, items}, 6, -2, 2);
        const auto [value, gradient] =
            graded(loss, predicted.to(at::kDouble), target.to(at::kDouble), options);
        const WithCuda with;
        const auto [got, got_gradient] = graded(loss, on_device(predicted), on_device(target), options);
        CHECK(got.item<double>() == doctest::Approx(value.item<double>()).epsilon(1e-6));
        CHECK(largest_error(got_gradient, gradient) <
              1e-6 * std::max(1.0, gradient.abs().max().item<double>()));
        // Without gradients the value alone.
        CHECK(same(on_host(ranking_loss(loss, on_device(predicted), on_device(target), options)), got));
      }
    }
  }
}

TEST_CASE("a list too long for the kernel, and float64, are LibTorch's") {
  const at::Tensor target = uniform({1, 4100}, 1), predicted = uniform({1, 4100}, 2);
  const at::Tensor want = ranking_loss(RankingLoss::kListMle, predicted, target);
  const WithCuda with;
  CHECK(same(on_host(ranking_loss(RankingLoss::kListMle, on_device(predicted), on_device(target))), want));
  const at::Tensor exact = ranking_loss(RankingLoss::kListMle, on_device(predicted).to(at::kDouble),
                                        on_device(target).to(at::kDouble));
  CHECK((exact.scalar_type() == at::kDouble));
}

TEST_CASE("selected patches are the CPU's") {
  const at::Tensor images = uniform({5, 3, 48, 64}, 1, -2, 2), logits = uniform({5, 48}, 2);
  for (const int64_t keep : {1, 12, 48}) {
    for (const bool compat : {false, true}) {
      SelectionOptions options;
      options.keep = keep;
      options.patch_size = 8;
      options.score_share = 0.3;
      options.compat = compat;
      const at::Tensor want = select_patches(images, logits, options, {});
      const WithCuda with;
      options.device = device();
      CHECK(same(select_patches(images, logits, options, {}), want));
    }
  }
}

}  // namespace
}  // namespace ltrp::test
