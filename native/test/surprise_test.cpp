// What a model that does not see a patch gets wrong about it, against its definition.
#include "core/engine/surprise.h"

#include <doctest/doctest.h>

#include <cmath>

#include "core/engine/masking.h"
#include "core/engine/score_map.h"
#include "kernels/pixels.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

TEST_CASE("surprise is the mean error of a hidden patch's edges, NaN for what is seen") {
  for (const bool normalized : {false, true}) {
    MaeConfig config = small_mae_config();
    config.normalized_target = normalized;
    const MaskedAutoencoder model({config, small_mae(at::kDouble).tensors(), "ltrp"}, at::kDouble);
    const at::Tensor images = random_tensor({2, 3, 24, 32}, 1, at::kDouble);
    const at::Tensor visible = visible_from_noise(masking_noise(2, 12, 3), 4);
    const at::Tensor found = edge_surprise(model, images, visible, {});
    REQUIRE(found.sizes() == at::IntArrayRef({2, 12}));
    const at::Tensor predicted = model.reconstruct(images, visible).view({2, 12, 8, 8, 3}),
                     target = target_patches(images, 8, normalized).view({2, 12, 8, 8, 3});
    const auto error = predicted.accessor<double, 5>();
    const auto truth = target.accessor<double, 5>();
    for (int64_t n = 0; n < 2; ++n) {
      for (int64_t patch = 0; patch < 12; ++patch) {
        if (visible[n].eq(patch).any().item<bool>()) {
          CHECK(std::isnan(found[n][patch].item<double>()));
          continue;
        }
        double sum = 0;
        int64_t edges = 0;
        for (int64_t y = 0; y < 8; ++y) {
          for (int64_t x = 0; x < 8; ++x) {
            for (int64_t c = 0; c < 3; ++c) {
              const auto edge = [&](const auto& of, int64_t dy, int64_t dx) {
                return of[n][patch][y + dy][x + dx][c] - of[n][patch][y][x][c];
              };
              if (y < 7) sum += std::abs(edge(error, 1, 0) - edge(truth, 1, 0)), ++edges;
              if (x < 7) sum += std::abs(edge(error, 0, 1) - edge(truth, 0, 1)), ++edges;
            }
          }
        }
        CHECK(found[n][patch].item<double>() == doctest::Approx(sum / static_cast<double>(edges)));
      }
    }
  }
}

TEST_CASE("bytes surprise as their normalised pixels do") {
  const MaskedAutoencoder model = small_mae(at::kFloat);
  const at::Tensor bytes = at::randint(0, 256, {1, 24, 32, 3}, at::kByte);
  const at::Tensor visible = visible_from_noise(masking_noise(1, 12, 3), 4);
  const at::Tensor pixels = normalize_pixels(bytes, model.config().mean, model.config().std);
  CHECK(edge_surprise(model, bytes, visible, {})
            .nan_to_num(-1)
            .allclose(edge_surprise(model, pixels, visible, {}).nan_to_num(-1), 1e-4, 1e-5));
}

TEST_CASE("a map with surprise is the map times the patches' mean surprise") {
  const MaskedAutoencoder model = small_mae(at::kDouble);
  const at::Tensor images = random_tensor({1, 3, 24, 32}, 1, at::kDouble);
  ScoreMapOptions options;
  options.rounds = 3;
  options.mask_ratio = 0.7;  // 3 of 12 patches: four masks a round that share none
  options.scores.metric = Metric::kReach;
  const ScoreMap plain = score_map(model, images, options, {});
  options.surprise = true;
  const ScoreMap surprised = score_map(model, images, options, {});
  const at::Tensor factor = surprised.mean / plain.mean;
  CHECK((surprised.standard_error / plain.standard_error).allclose(factor));
  CHECK(factor.min().item<double>() > 0);
  // Of some mask alone, a patch's surprise is of the factor's size: it is a mean over nine such.
  const at::Tensor one = edge_surprise(model, images, visible_from_noise(masking_noise(1, 12, 3), 3), {});
  CHECK(std::abs(one.nanmean().item<double>() / factor.mean().item<double>() - 1) < 0.2);
}

TEST_CASE("a patch that every mask shows has no surprise") {
  const MaskedAutoencoder model = small_mae(at::kFloat);
  ScoreMapOptions options;
  options.surprise = true;
  options.rounds = 1;
  options.mask_ratio = 0.05;  // 11 of 12 patches, then the other and ten that were seen before
  CHECK_THROWS_WITH_AS(score_map(model, random_tensor({1, 3, 24, 32}, 1, at::kFloat), options, {}),
                       doctest::Contains("surprise needs every patch hidden"), Error);
}

}  // namespace
}  // namespace ltrp::test
