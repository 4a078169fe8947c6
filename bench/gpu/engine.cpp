// The engine on the GPU against the authors' loop on the same GPU, with the same random weights and pictures.
#include <ATen/ATen.h>

#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "authors_loop.h"
#include "core/device/precision.h"
#include "core/engine/agreement.h"
#include "core/engine/leave_one_out.h"
#include "core/engine/masking.h"
#include "core/engine/teacher.h"
#include "core/random.h"
#include "geometries.h"
#include "sections.h"
#include "timing.h"

namespace ltrp::bench::gpu {
namespace {

constexpr double kMaskRatio = 0.9;

// Initial weights with random biases and norms, so that no term is trivially zero or one.
MaeCheckpoint random_teacher(const MaeConfig& config) {
  MaeCheckpoint checkpoint{config, {}, "ltrp"};
  at::Generator generator = generator_for(1, 7);
  const MaskedAutoencoder initial = MaskedAutoencoder::initialized(config, 1);
  for (const auto& [name, tensor] : initial.tensors()) {
    checkpoint.tensors[name] =
        name.ends_with("pos_embed")
            ? tensor.clone()
            : tensor + at::empty(tensor.sizes(), at::kFloat).normal_(0, 0.02, generator);
  }
  return checkpoint;
}

struct Work {
  MaeCheckpoint checkpoint;
  at::Tensor images, visible;  // on the CPU, as users have them
  at::Tensor exact;            // [1, V] float64 scores of the first image; undefined: not computed
};

// What one contender yields: throughput, and how far the first image's scores are from float64.
template <typename Scores>
Json measured(const std::string& contender, const std::string& precision, const Work& work,
              const Settings& settings, Scores&& scores) {
  Json result = {{"contender", contender}, {"precision", precision}, {"images", work.images.size(0)}};
  try {
    const at::Tensor got = scores().to(at::kCPU, at::kDouble).slice(0, 0, 1);
    if (!got.isfinite().all().item<bool>()) throw std::runtime_error("scores are not finite");
    if (work.exact.defined()) {
      result["error"] = ((got - work.exact) / work.exact).abs().mean().template item<double>();
      result["kendallTau"] = kendall_tau(got, work.exact).mean().template item<double>();
    }
    const double seconds = seconds_of(settings, scores);
    result["ms"] = seconds * 1e3;
    if (seconds > 0) result["imagesPerSecond"] = static_cast<double>(work.images.size(0)) / seconds;
  } catch (const std::exception& error) {
    const std::string text = error.what();
    result["failed"] = text.substr(0, text.find('\n'));
  }
  return result;
}

class Tf32 {
 public:
  explicit Tf32(bool on) { at::globalContext().setAllowTF32CuBLAS(on); }
  ~Tf32() { at::globalContext().setAllowTF32CuBLAS(false); }
  Tf32(const Tf32&) = delete;
  Tf32& operator=(const Tf32&) = delete;
};

Json contenders(const Work& work, const Settings& settings) {
  const c10::Device gpu(c10::kCUDA, 0);
  Json results = Json::array();
  {
    const MaskedAutoencoder model(work.checkpoint, at::kFloat, gpu);
    const AuthorsLoop loop(model);
    for (const auto& [precision, name] : {std::pair{LoopPrecision::kFloat32, "float32"},
                                          {LoopPrecision::kFloat16, "float16 autocast"},
                                          {LoopPrecision::kBFloat16, "bfloat16 autocast"}}) {
      results.push_back(measured("the authors' loop", name, work, settings, [&, precision = precision] {
        return loop.scores(work.images.to(gpu), work.visible.to(gpu), work.visible.size(1), precision)
            .to(at::kCPU);
      }));
    }
  }
  for (const auto& [wanted, name] : {std::pair{Precision::kFloat32, "float32"},
                                     {Precision::kFloat32, "TF32"},
                                     {Precision::kFloat16, "float16"},
                                     {Precision::kBfloat16, "bfloat16"},
                                     {Precision::kFloat8, "fp8"},
                                     {Precision::kInt8, "int8"}}) {
    if (effective_precision(wanted, gpu) != wanted) continue;
    const Tf32 tf32(std::string(name) == "TF32");
    std::optional<Teacher> teacher;
    teacher.emplace(MaskedAutoencoder(work.checkpoint, at::kFloat, gpu), wanted);
    results.push_back(measured("ltrp", name, work, settings, [&] {
      return leave_one_out_scores(*teacher, work.images, work.visible, {}, {});
    }));
  }
  return results;
}

}  // namespace

Json measure_engine(const Settings& settings) {
  Json results = Json::array();
  const std::vector<std::string> names = settings.small
                                             ? std::vector<std::string>{"tiny"}
                                             : std::vector<std::string>{"vit_b", "vit_l", "vit_h14"};
  for (const std::string& name : names) {
    const MaeConfig config = mae_geometry({{"geometry", name}});
    const int64_t n = settings.small ? 2 : 16, patches = config.grid().patches();
    const auto visible = static_cast<int64_t>(std::floor(static_cast<double>(patches) * (1 - kMaskRatio)));
    Work work{random_teacher(config),
              at::empty({n, 3, config.image_height, config.image_width}, at::kFloat)
                  .normal_(0, 1, generator_for(2, 7)),
              visible_from_noise(masking_noise(n, patches, 3), visible),
              {}};
    if (name != "vit_h14") {  // whose float64 weights and activations leave no room on smaller GPUs
      const MaskedAutoencoder exact(work.checkpoint, at::kDouble, c10::Device(c10::kCUDA, 0));
      work.exact = leave_one_out_scores(exact, work.images.slice(0, 0, 1).to(at::kDouble),
                                        work.visible.slice(0, 0, 1), {}, {});
    }
    results.push_back({{"teacher", name},
                       {"patches", patches},
                       {"visible", visible},
                       {"contenders", contenders(work, settings)}});
  }
  return results;
}

}  // namespace ltrp::bench::gpu
