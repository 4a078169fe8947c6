// The contract: what is computed of an image has the same bits whatever the other images, its place among
// them, the memory budget, the number of threads and what else runs, for one precision. Bits, not tolerances.
#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "core/engine/inference_ranker.h"
#include "core/engine/leave_one_out.h"
#include "core/engine/masking.h"
#include "core/engine/score_map.h"
#include "core/engine/selection.h"
#include "core/error.h"
#include "kernels/difference.h"
#include "kernels/pixels.h"
#include "test/delta_form_support.h"
#include "test/delta_support.h"

namespace ltrp::test {
namespace {

// Everything that a property draws, from one seed.
class Draw {
 public:
  explicit Draw(uint64_t seed) : generator_(seed) {}
  int64_t between(int64_t least, int64_t most) {
    return std::uniform_int_distribution<int64_t>(least, most)(generator_);
  }
  template <typename T>
  T one_of(std::initializer_list<T> values) {
    return values.begin()[between(0, static_cast<int64_t>(values.size()) - 1)];
  }
  uint64_t seed() { return generator_(); }
  // Widths that are no multiples of a vector, several heads or one.
  TransformerConfig stack(int64_t most_blocks) {
    const int64_t heads = between(1, 3), dim = heads * 4 * between(2, 9);
    return {dim, between(1, most_blocks), heads, between(9, 130)};
  }

 private:
  std::mt19937_64 generator_;
};

struct Scene {
  MaeCheckpoint checkpoint;
  at::Tensor images;   // [n, 3, H, W] float32
  at::Tensor visible;  // [n, V]
};

Scene scene_of(Draw& draw, int64_t least_visible) {
  MaeConfig config;
  config.patch_size = draw.one_of<int64_t>({6, 8});
  config.image_height = config.patch_size * draw.between(2, 6);
  config.image_width = config.patch_size * draw.between(2, 6);
  config.encoder = draw.stack(2);
  config.decoder = draw.stack(3);
  const int64_t rows = draw.between(2, 7), columns = draw.between(2, 7), n = draw.between(3, 6);
  const at::Tensor images =
      random_tensor({n, 3, rows * config.patch_size, columns * config.patch_size}, draw.seed(), at::kFloat);
  const int64_t patches = rows * columns,
                visible = draw.between(least_visible, std::max(least_visible, patches - 1));
  return {random_mae(config, draw.seed()), images,
          visible_from_noise(masking_noise(n, patches, draw.seed()), visible)};
}

template <typename Compute>
at::Tensor with_threads(int threads, Compute compute) {
  const ThreadCount set(threads);
  return compute();
}

// What compute(images, visible) says of each image, against what it says of them in every other company.
// `whole` [n, ...] is the result for all, on one thread.
template <typename Compute>
void check_company(Draw& draw, const at::Tensor& images, const at::Tensor& visible, const at::Tensor& whole,
                   Compute compute) {
  const int64_t n = images.size(0);
  const auto of = [&](const at::Tensor& ids) {
    return compute(images.index_select(0, ids),
                   visible.defined() ? visible.index_select(0, ids) : at::Tensor());
  };
  for (const int threads : {2, 3}) {
    CAPTURE(threads);
    CHECK(whole.equal(with_threads(threads, [&] { return of(at::arange(n, at::kLong)); })));
  }
  const at::Tensor order = at::randperm(n, generator_for(draw.seed(), 0), at::kLong);
  const at::Tensor some = at::cat({order, order.slice(0, 0, draw.between(1, n))});
  const int threads = static_cast<int>(draw.between(1, 3));
  CHECK(whole.index_select(0, some).equal(with_threads(threads, [&] { return of(some); })));
  const at::Tensor one = order.slice(0, 0, 1);
  for (const int alone : {1, 2}) {
    CAPTURE(alone);
    CHECK(whole.index_select(0, one).equal(with_threads(alone, [&] { return of(one); })));
  }
  // Beside another call of the same model.
  at::Tensor beside;
  std::thread other([&] { beside = of(some); });
  const at::Tensor here = of(one);
  other.join();
  CHECK(whole.index_select(0, one).equal(here));
  CHECK(whole.index_select(0, some).equal(beside));
}

TEST_CASE("an image's metric has the same bits in any batch, budget and number of threads") {
  for (uint64_t seed = 0; seed < (kSanitized ? 4 : 12); ++seed) {
    CAPTURE(seed);
    Draw draw(seed);
    LeaveOneOutOptions options;
    options.drop = draw.one_of({Drop::kDecoder, Drop::kEncoder, Drop::kBoth});
    options.metric = draw.one_of({Metric::kL1, Metric::kL2, Metric::kPsnr, Metric::kSsim, Metric::kReach});
    options.tolerance = draw.one_of({0.0, 0.0, 0.05, 0.3});
    const Scene scene = scene_of(draw, options.drop == Drop::kBoth ? 2 : 1);
    const std::string what = name_of(options.drop) + ", " + name_of(options.metric) + ", tolerance " +
                             std::to_string(options.tolerance);
    CAPTURE(what);
    for (const Precision precision : precisions_here()) {
      CAPTURE(name_of(precision));
      const Teacher teacher(MaskedAutoencoder(scene.checkpoint), precision);
      const auto metric = [&](const at::Tensor& images, const at::Tensor& visible) {
        return leave_one_out_metric(teacher, images, visible, options, {});
      };
      const at::Tensor whole = with_threads(1, [&] { return metric(scene.images, scene.visible); });
      CHECK(whole.isfinite().all().item<bool>());
      check_company(draw, scene.images, scene.visible, whole, metric);
      for (const int64_t budget : {int64_t{1}, draw.between(1, 1 << 22)}) {
        CAPTURE(budget);
        LeaveOneOutOptions tight = options;
        tight.memory_budget = budget;
        CHECK(whole.equal(leave_one_out_metric(teacher, scene.images, scene.visible, tight, {})));
      }
    }
  }
}

TEST_CASE("the delta form in float32 keeps the contract with every drop, metric and tolerance") {
  for (uint64_t seed = 100; seed < (kSanitized ? 103 : 108); ++seed) {
    CAPTURE(seed);
    Draw draw(seed);
    LeaveOneOutOptions options;
    options.drop = draw.one_of({Drop::kDecoder, Drop::kEncoder, Drop::kBoth});
    options.metric = draw.one_of({Metric::kL1, Metric::kL2, Metric::kPsnr, Metric::kSsim, Metric::kReach});
    options.tolerance = draw.one_of({0.0, 0.1, 0.5});
    const Scene scene = scene_of(draw, 2);
    const Delta delta(scene.checkpoint, Precision::kFloat32);
    const auto metric = [&](const at::Tensor& images, const at::Tensor& visible) {
      return delta.metric(images, visible, options);
    };
    const at::Tensor whole = with_threads(1, [&] { return metric(scene.images, scene.visible); });
    check_company(draw, scene.images, scene.visible, whole, metric);
    LeaveOneOutOptions tight = options;
    tight.memory_budget = 1;
    CHECK(whole.equal(delta.metric(scene.images, scene.visible, tight)));
  }
}

TEST_CASE("the embedded teacher keeps the contract at its own size") {
  if (kSanitized) return;  // minutes, for memory that smaller models use too
  const MaeCheckpoint checkpoint = load_checkpoint<MaeConfig>(LTRP_SOURCE_DIR "/models/tiny-mae.safetensors");
  const at::Tensor images = random_tensor({3, 3, 224, 224}, 5, at::kFloat);
  const at::Tensor visible = visible_from_noise(masking_noise(3, 196, 2), 19);
  Draw draw(1);
  for (const Precision precision : precisions_here()) {
    CAPTURE(name_of(precision));
    const Teacher teacher(MaskedAutoencoder(checkpoint), precision);
    for (const Metric metric : {Metric::kL1, Metric::kPsnr, Metric::kSsim, Metric::kReach}) {
      CAPTURE(name_of(metric));
      LeaveOneOutOptions options, tight;
      options.metric = tight.metric = metric;
      tight.memory_budget = int64_t{3} << 20;
      const at::Tensor whole = leave_one_out_metric(teacher, images, visible, options, {});
      CHECK(whole.equal(leave_one_out_metric(teacher, images, visible, tight, {})));
      const int64_t i = draw.between(0, 2);
      CHECK(whole.narrow(0, i, 1).equal(with_threads(1, [&] {
        return leave_one_out_metric(teacher, images.narrow(0, i, 1), visible.narrow(0, i, 1), options, {});
      })));
    }
  }
}

TEST_CASE("a map has the same bits beside other images, with any budget and number of threads") {
  for (uint64_t seed = 200; seed < 206; ++seed) {
    CAPTURE(seed);
    Draw draw(seed);
    const Scene scene = scene_of(draw, 2);
    const Teacher teacher(MaskedAutoencoder(scene.checkpoint), Precision::kFloat32);
    ScoreMapOptions options;
    options.rounds = 2;
    options.mask_ratio = 0.6;
    options.scores.metric = draw.one_of({Metric::kL1, Metric::kPsnr, Metric::kSsim, Metric::kReach});
    options.surprise = draw.one_of({false, true});
    const ScoreMap all = score_map(teacher, scene.images, options, {});
    options.scores.memory_budget = 1;
    const ThreadCount set(3);
    const ScoreMap first = score_map(teacher, scene.images.narrow(0, 0, 1), options, {});
    CHECK(first.mean[0].equal(all.mean[0]));
    CHECK(first.standard_error[0].equal(all.standard_error[0]));
  }
}

TEST_CASE("an image's logits have the same bits in any batch and on any number of threads") {
  for (uint64_t seed = 300; seed < 312; ++seed) {
    CAPTURE(seed);
    Draw draw(seed);
    RankerConfig config;
    config.patch_size = draw.one_of<int64_t>({4, 8});
    config.image_height = config.patch_size * draw.between(2, 12);
    config.image_width = config.patch_size * draw.between(2, 12);
    config.encoder = draw.stack(3);
    config.head = draw.one_of({RankerHead::kCls, RankerHead::kToken});
    const RankerCheckpoint checkpoint{
        config, perturbed(PatchRanker::initialized(config, draw.seed()).tensors(), draw.seed()), "ltrp"};
    Grid grid = config.grid();
    if (config.head == RankerHead::kToken && draw.between(0, 1) == 1)
      grid = {draw.between(1, 9), draw.between(2, 15)};
    const int64_t n = draw.between(1, 4) * draw.between(1, 9);
    at::Tensor images = random_tensor({n, 3, grid.rows * config.patch_size, grid.columns * config.patch_size},
                                      draw.seed(), at::kFloat);
    if (draw.between(0, 1) == 1) {
      images = (images * 50 + 128).clamp(0, 255).to(at::kByte).permute({0, 2, 3, 1}).contiguous();
    }
    at::Tensor visible;
    if (draw.between(0, 1) == 1) {
      visible = visible_from_noise(masking_noise(n, grid.patches(), draw.seed()),
                                   draw.between(1, grid.patches() - 1));
    }
    for (const Precision precision : precisions_here()) {
      CAPTURE(name_of(precision));
      const InferenceRanker ranker(PatchRanker(checkpoint), precision);
      const auto logits = [&](const at::Tensor& some, const at::Tensor& ids) {
        return ranker.logits(some, ids.defined() ? std::optional<at::Tensor>(ids) : std::nullopt, {});
      };
      check_company(draw, images, visible, with_threads(1, [&] { return logits(images, visible); }), logits);
    }
  }
}

TEST_CASE("an image's selection is the same in any batch and on any number of threads") {
  for (uint64_t seed = 400; seed < 412; ++seed) {
    CAPTURE(seed);
    Draw draw(seed);
    // Below and above the number of patches up to which distances are sums of squares.
    const int64_t rows = draw.between(3, 14), columns = draw.between(3, 14), n = draw.between(2, 5),
                  patches = rows * columns;
    // Smooth, and black at the borders: patches that are alike, so that a last bit would show.
    at::Tensor images = at::upsample_bilinear2d(random_tensor({n, 3, 4, 4}, draw.seed(), at::kFloat),
                                                {rows * 8, columns * 8}, false);
    images.slice(2, 0, 8).fill_(-2);
    const at::Tensor noise = at::rand({patches}, generator_for(draw.seed(), 0)),
                     logits = random_tensor({n, patches}, draw.seed(), at::kFloat);
    SelectionOptions options;
    options.patch_size = 8;
    options.keep = draw.between(2, patches - 1);
    options.score_share = draw.one_of({0.0, 0.4, 0.7});
    options.compat = draw.between(0, 1) == 1;
    const auto select = [&](const at::Tensor& some, const at::Tensor& ids) {
      SelectionOptions given = options;
      given.density_noise = given.member_noise = noise.expand({some.size(0), patches}).contiguous();
      return select_patches(some, logits.index_select(0, ids.select(1, 0)), given, {});
    };
    const at::Tensor ids = at::arange(n, at::kLong).unsqueeze(1);
    check_company(draw, images, ids, with_threads(1, [&] { return select(images, ids); }), select);
  }
}

TEST_CASE("lists of equal values are zeros, in scores and in maps") {
  const MaskedAutoencoder model = small_mae(at::kFloat);
  const at::Tensor images = random_tensor({1, 3, 24, 32}, 4, at::kFloat);
  for (const Metric metric : {Metric::kPsnr, Metric::kSsim}) {
    CAPTURE(name_of(metric));
    LeaveOneOutOptions options;
    options.metric = metric;
    const at::Tensor one =
        leave_one_out_scores(model, images, at::tensor({5}, at::kLong).view({1, 1}), options, {});
    CHECK(one.equal(at::zeros({1, 1})));
  }
  // A decoder that says the same whatever it sees.
  TensorMap tensors = small_mae(at::kFloat).tensors();
  tensors["decoder_pred.weight"] = at::zeros_like(tensors["decoder_pred.weight"]);
  for (const double bias : {0.0, 0.5}) {
    CAPTURE(bias);
    tensors["decoder_pred.bias"] = at::full_like(tensors["decoder_pred.bias"], bias);
    const MaeCheckpoint checkpoint{small_mae_config(), tensors, "ltrp"};
    for (const Precision precision : precisions_here()) {
      const Teacher teacher(MaskedAutoencoder(checkpoint), precision);
      for (const Metric metric : {Metric::kL1, Metric::kL2, Metric::kPsnr, Metric::kSsim, Metric::kReach}) {
        CAPTURE(name_of(metric));
        LeaveOneOutOptions options;
        options.metric = metric;
        const at::Tensor visible = visible_from_noise(masking_noise(1, 12, 5), 4);
        CHECK(leave_one_out_scores(teacher, images, visible, options, {}).equal(at::zeros({1, 4})));
        ScoreMapOptions map;
        map.scores = options;
        map.mask_ratio = 0.6;
        const ScoreMap found = score_map(teacher, images, map, {});
        CHECK(found.mean.equal(at::zeros({1, 3, 4})));
        CHECK(found.standard_error.equal(at::zeros({1, 3, 4})));
      }
    }
  }
}

TEST_CASE("equal and plain images have finite similarities") {
  for (const at::ScalarType type : {at::kFloat, at::kDouble}) {
    const auto similarity = [](const at::Tensor& predicted, const at::Tensor& target) {
      return structural_similarity(target, at::zeros({1}, at::kInt), {predicted[0]}, false, {12, 13})
          .item<double>();
    };
    const at::Tensor picture = random_tensor({1, 12 * 13, 3}, 1, type);
    CHECK(similarity(picture, picture) == doctest::Approx(1));
    const at::Tensor one = at::ones_like(picture), three = 3 * one;
    CHECK(similarity(one, one) == 1);
    CHECK(similarity(0 * one, 0 * one) == 1);
    CHECK(similarity(three, one) == doctest::Approx(0.6));
    CHECK(std::isnan(similarity(three, one / 0 * 0)));
  }
  CHECK(peak_signal_to_noise(at::zeros({1})).item<double>() == doctest::Approx(388.8).epsilon(1e-3));
}

// A checkpoint's tensors with those whose name contains `part` multiplied.
TensorMap scaled(const TensorMap& tensors, const std::string& part, double factor) {
  TensorMap result = tensors;
  for (auto& [name, tensor] : result) {
    if (name.find(part) != std::string::npos) tensor = tensor * factor;
  }
  return result;
}

template <typename Compute>
void check_refused(Compute compute, const std::string& subject) {
  try {
    compute();
    FAIL_CHECK("not refused");
  } catch (const Error& error) {
    const std::string message = error.what();
    CHECK(std::string(error.code()) == codes::kNotFinite);
    CHECK(message.find("The " + subject + " of image 1 are not finite") == 0);
  }
}

TEST_CASE("what goes beyond float32 is refused, in every precision and wherever it happens") {
  const TensorMap ranker_tensors = small_ranker(RankerHead::kToken, at::kFloat).tensors(),
                  mae_tensors = small_mae(at::kFloat).tensors();
  at::Tensor fine = random_tensor({2, 3, 24, 32}, 4, at::kFloat);
  at::Tensor huge = fine.clone();
  huge[1] *= 1e38F;
  const at::Tensor visible = visible_from_noise(masking_noise(2, 12, 5), 4);
  for (const Precision precision : precisions_here()) {
    CAPTURE(name_of(precision));
    for (const RankerHead head : {RankerHead::kCls, RankerHead::kToken}) {
      const RankerConfig config = small_ranker_config(head);
      const InferenceRanker ranker(PatchRanker({config, small_ranker(head, at::kFloat).tensors(), "ltrp"}),
                                   precision);
      CHECK(ranker.logits(fine, {}, {}).isfinite().all().item<bool>());
      check_refused([&] { ranker.logits(huge, {}, {}); }, "logits");
      check_refused([&] { ranker.logits(huge, visible, {}); }, "logits");
    }
    const Teacher teacher(MaskedAutoencoder({small_mae_config(), mae_tensors, "ltrp"}), precision);
    for (const Drop drop : {Drop::kDecoder, Drop::kEncoder, Drop::kBoth}) {
      for (const Metric metric : {Metric::kL1, Metric::kSsim, Metric::kReach}) {
        LeaveOneOutOptions options;
        options.drop = drop;
        options.metric = metric;
        CAPTURE(name_of(drop));
        CAPTURE(name_of(metric));
        check_refused([&] { leave_one_out_scores(teacher, huge, visible, options, {}); }, "scores");
        ScoreMapOptions map;
        map.scores = options;
        map.mask_ratio = 0.6;
        map.rounds = 1;
        check_refused([&] { score_map(teacher, huge, map, {}); }, "scores");
      }
    }
    // In the weights, at every place of a block.
    for (const std::string part : {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "norm"}) {
      CAPTURE(part);
      const RankerConfig config = small_ranker_config(RankerHead::kToken);
      const InferenceRanker ranker(PatchRanker({config, scaled(ranker_tensors, part, 1e38), "ltrp"}),
                                   precision);
      CHECK_THROWS_AS(ranker.logits(fine, {}, {}), Error);
    }
    for (const std::string part : {"attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2", "norm"}) {
      CAPTURE(part);
      const Teacher wild(MaskedAutoencoder({small_mae_config(), scaled(mae_tensors, part, 1e38), "ltrp"}),
                         precision);
      CHECK_THROWS_AS(leave_one_out_scores(wild, fine, visible, {}, {}), Error);
    }
  }
}

}  // namespace
}  // namespace ltrp::test
