// The whole engine on the kernels of this device: scores and logits against float64 and the authors' numbers.
#include <doctest/doctest.h>

#include <string>
#include <utility>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/safetensors.h"
#include "core/engine/agreement.h"
#include "core/engine/inference_ranker.h"
#include "core/engine/leave_one_out.h"
#include "core/engine/masking.h"
#include "core/engine/teacher.h"
#include "kernels/pixels.h"
#include "test/cuda/device_tensors.h"
#include "test/cuda/with_cuda.h"
#include "test/delta_form_support.h"

namespace ltrp::test {
namespace {

struct Bounds {
  Precision precision;
  double error;  // mean relative error of scores
  double tau;
};

// What the project promises of each precision; float16 lies between its neighbours.
const std::vector<Bounds> kBounds{{Precision::kFloat32, 1e-5, 1},
                                  {Precision::kFloat16, 1e-3, 0.99},
                                  {Precision::kBfloat16, 1e-3, 0.99},
                                  {Precision::kFloat8, 5e-3, 0.965},
                                  {Precision::kInt8, 2e-3, 0.98}};

struct Golden {
  MaeCheckpoint checkpoint;
  at::Tensor images, visible;
  TensorMap expected;
};

Golden small_golden() {
  const std::string folder = LTRP_SOURCE_DIR "/test/fixtures/golden-small/";
  Golden golden{load_checkpoint<MaeConfig>(folder + "hf-v5"),
                {},
                {},
                read_safetensors(folder + "expected.safetensors").tensors};
  // The bytes of image-0.png and image-1.png, which C++ would need a library to read.
  const at::Tensor pixels = read_safetensors(folder + "pixels.safetensors").tensors.at("pixels");
  golden.images = normalize_pixels(pixels, golden.checkpoint.config.mean, golden.checkpoint.config.std);
  golden.visible = golden.expected.at("ids_keep").to(at::kLong);
  return golden;
}

at::Tensor scores(const Teacher& teacher, const Golden& golden, const LeaveOneOutOptions& options = {}) {
  return leave_one_out_scores(teacher, golden.images, golden.visible, options, {});
}

TEST_CASE("CUDA engine: the authors' scores in float32") {
  const Golden golden = small_golden();
  const WithCuda with;
  const Teacher teacher(MaskedAutoencoder(golden.checkpoint, at::kFloat, device()), Precision::kFloat32);
  for (const auto& [drop, name] :
       {std::pair{Drop::kDecoder, "score_decoder_l1"}, {Drop::kEncoder, "score_encoder_l1"}}) {
    LeaveOneOutOptions options;
    options.drop = drop;
    const at::Tensor got = scores(teacher, golden, options), want = golden.expected.at(name);
    CHECK(((got - want) / want).abs().max().item<double>() < 1e-4);
  }
}

TEST_CASE("CUDA engine: the delta form keeps every precision's bounds") {
  const Golden golden = small_golden();
  const MaskedAutoencoder exact(golden.checkpoint, at::kDouble);
  const at::Tensor want = leave_one_out_scores(exact, golden.images.to(at::kDouble), golden.visible, {}, {});
  const WithCuda with;
  for (const Bounds& bounds : kBounds) {
    const MaskedAutoencoder model = [&] {
      MaskedAutoencoder result(golden.checkpoint, at::kFloat, device());
      result.pack();
      return result;
    }();
    const DeltaForm form(model, bounds.precision);
    const at::Tensor got =
        on_host(form.metric(golden.images.to(device()), golden.visible.to(device()), {}, {}));
    const double error = mean_relative_error(got, want);
    MESSAGE(name_of(bounds.precision) << ": mean relative error " << error << ", tau "
                                      << kendall_tau(got.to(at::kDouble), want).mean().item<double>());
    CHECK(error <= bounds.error);
    CHECK(kendall_tau(got.to(at::kDouble), want).mean().item<double>() >= bounds.tau);
  }
}

TEST_CASE("CUDA engine: every drop and metric, in one piece and in many, exact and with a tolerance") {
  const MaeCheckpoint checkpoint = random_mae(small_mae_config(), 8);
  const MaskedAutoencoder exact(checkpoint, at::kDouble);
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 9, at::kFloat);
  const at::Tensor visible = visible_from_noise(masking_noise(2, 12, 9), 4);
  const WithCuda with;
  MaskedAutoencoder model(checkpoint, at::kFloat, device());
  model.pack();
  const DeltaForm form(model, Precision::kFloat32);
  for (const Drop drop : {Drop::kDecoder, Drop::kEncoder, Drop::kBoth}) {
    for (const Metric metric : {Metric::kL1, Metric::kL2, Metric::kPsnr, Metric::kSsim}) {
      const std::string what = name_of(drop) + ", " + name_of(metric);
      CAPTURE(what);
      LeaveOneOutOptions options;
      options.drop = drop;
      options.metric = metric;
      const auto metric_of = [&] {
        return size_of_change(on_host(form.metric(images.to(device()), visible.to(device()), options, {})),
                              metric);
      };
      const at::Tensor want =
          size_of_change(leave_one_out_metric(exact, images.to(at::kDouble), visible, options, {}), metric);
      const at::Tensor got = metric_of();
      CHECK(mean_relative_error(got, want) < 1e-4);
      options.memory_budget = 1;
      CHECK(mean_relative_error(metric_of(), want) < 1e-4);
      options.tolerance = 0.1;
      const at::Tensor sparse = metric_of();
      CHECK(mean_relative_error(sparse, want) < 0.5);
      CHECK_FALSE(sparse.equal(got));
    }
  }
}

TEST_CASE("CUDA engine: every drop and metric in the direct form") {
  const MaeCheckpoint checkpoint = random_mae(small_mae_config(), 8);
  const MaskedAutoencoder exact(checkpoint, at::kDouble);
  const at::Tensor images = random_tensor({2, 3, 24, 32}, 9, at::kFloat);
  const at::Tensor visible = visible_from_noise(masking_noise(2, 12, 9), 4);
  const WithCuda with;
  const MaskedAutoencoder model(checkpoint, at::kFloat, device());
  for (const Drop drop : {Drop::kDecoder, Drop::kEncoder, Drop::kBoth}) {
    for (const Metric metric : {Metric::kL1, Metric::kL2, Metric::kPsnr, Metric::kSsim}) {
      const std::string what = name_of(drop) + ", " + name_of(metric);
      CAPTURE(what);
      LeaveOneOutOptions options;
      options.drop = drop;
      options.metric = metric;
      const at::Tensor want =
          size_of_change(leave_one_out_metric(exact, images.to(at::kDouble), visible, options, {}), metric);
      const auto metric_of = [&] {
        return size_of_change(leave_one_out_metric(model, images, visible, options, {}), metric);
      };
      CHECK(mean_relative_error(metric_of(), want) < 1e-3);
      options.memory_budget = 1;
      CHECK(mean_relative_error(metric_of(), want) < 1e-3);
    }
  }
}

TEST_CASE("CUDA engine: a ranker's logits in every precision") {
  for (const RankerHead head : {RankerHead::kCls, RankerHead::kToken}) {
    const RankerConfig config = small_ranker_config(head);
    const RankerCheckpoint checkpoint{config, perturbed(PatchRanker::initialized(config, 2).tensors(), 2),
                                      "ltrp"};
    const at::Tensor images = random_tensor({5, 3, 24, 32}, 1, at::kFloat);
    const at::Tensor want = PatchRanker(checkpoint, at::kDouble).forward(images);
    const WithCuda with;
    for (const auto& [precision, bound] : {std::pair{Precision::kFloat32, 1e-5},
                                           {Precision::kFloat16, 1e-2},
                                           {Precision::kBfloat16, 3e-2},
                                           {Precision::kFloat8, 0.3},
                                           {Precision::kInt8, 0.1}}) {
      CAPTURE(precision_name(precision));
      const InferenceRanker ranker(PatchRanker(checkpoint, at::kFloat, device()), precision);
      const at::Tensor got = ranker.logits(images, {}, {});
      CHECK(largest_error(got, want) < bound * want.std().item<double>());
    }
  }
}

}  // namespace
}  // namespace ltrp::test
