#include "binding/info.h"

#include <ATen/Context.h>
#include <ATen/Version.h>
#include <torch/headeronly/version.h>

#include <string>
#include <vector>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include "binding/environment.h"
#include "binding/failure.h"
#include "binding/kinds.h"
#include "binding/model_config.h"
#include "core/device/accelerators.h"
#include "core/device/precision.h"
#include "core/engine/keep_list.h"
#include "core/engine/leave_one_out.h"
#include "core/engine/prior.h"
#include "core/engine/selection.h"
#include "core/model/classifier.h"
#include "core/ranks/ranks.h"
#include "core/selectors/selectors.h"
#include "core/training/options.h"
#include "kernels/simd.h"

// From libtorch_cpu's stable C interface (2.9 and later): the version of the library that is loaded, one byte
// a part.
extern "C" uint64_t aoti_torch_abi_version();

namespace ltrp::binding {
namespace {

std::string runtime_version() {
  const uint64_t version = aoti_torch_abi_version();
  return std::to_string(version >> 56 & 0xff) + "." + std::to_string(version >> 48 & 0xff) + "." +
         std::to_string(version >> 40 & 0xff);
}

std::vector<std::string> cpu_features() {
  std::vector<std::string> features;
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2")) features.emplace_back("avx2");
  // avx512f here includes the operating system's part: that it saves the wide registers.
  const bool avx512 = __builtin_cpu_supports("avx512f");
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  if (__builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 4 & 1)) {
    features.emplace_back("avx_vnni");
  }
  if (avx512) features.emplace_back("avx512f");
  if (avx512 && __builtin_cpu_supports("avx512vnni")) features.emplace_back("avx512_vnni");
  if (avx512 && __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) && (eax >> 5 & 1)) {
    features.emplace_back("avx512_bf16");
  }
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx)) {
    if (edx >> 22 & 1) features.emplace_back("amx_bf16");
    if (edx >> 25 & 1) features.emplace_back("amx_int8");
  }
#endif
  return features;
}

template <typename Value>
void set_names(Napi::Object object, const char* key) {
  std::vector<std::string> words;
  for (const auto& entry : Names<Value>::all) words.emplace_back(entry.name);
  object.Set(key, to_javascript(object.Env(), words));
}

// The words of every enumeration that crosses the border.
Napi::Object names(Napi::Env env) {
  Napi::Object object = Napi::Object::New(env);
  set_names<Precision>(object, "precision");
  set_names<Drop>(object, "drop");
  set_names<Metric>(object, "metric");
  set_names<RankingLoss>(object, "loss");
  set_names<RankerHead>(object, "head");
  set_names<SelectionMode>(object, "mode");
  set_names<Prior>(object, "prior");
  set_names<StoredType>(object, "type");
  set_names<CropRounding>(object, "rounding");
  std::vector<std::string> words;
  for (const AnyKind* kind : kinds()) words.push_back(kind->word());
  object.Set("kind", to_javascript(env, words));
  words.clear();
  for (const Selector& selector : kSelectors) words.emplace_back(selector.name);
  object.Set("selector", to_javascript(env, words));
  set_names<Pooling>(object, "pooling");
  set_names<Labels>(object, "labels");
  set_names<TrainingPrecision>(object, "trainingPrecision");
  set_names<Schedule>(object, "schedule");
  set_names<RankerInput>(object, "input");
  set_names<RankerStart>(object, "start");
  set_names<RankerTargets>(object, "targets");
  set_names<Reduction>(object, "reduction");
  return object;
}

}  // namespace

Napi::Value info(const Napi::CallbackInfo& info) {
  Napi::Env env = info.Env();
  return guarded(env, [&]() -> Napi::Value {
    Napi::Object object = Napi::Object::New(env);
    object.Set("coreVersion", LTRP_VERSION);
    object.Set("torchVersion", std::to_string(TORCH_VERSION_MAJOR) + "." +
                                   std::to_string(TORCH_VERSION_MINOR) + "." +
                                   std::to_string(TORCH_VERSION_PATCH));
    object.Set("torchRuntimeVersion", runtime_version());
    object.Set("cpuCapability", at::get_cpu_capability());
    object.Set("cpuFeatures", to_javascript(env, cpu_features()));
    object.Set("mkl", at::hasMKL());
    object.Set("onednn", at::hasMKLDNN());
    object.Set("threads", Environment::of(env).compute.threads());
    object.Set("simd", std::string(simd_level_name(simd_level())));
    object.Set("simdOfProcessor", std::string(simd_level_name(processor_simd_level())));
    object.Set("emulatedPrecisions", precisions_are_emulated());
    // For each precision asked for, the one a model computes in on the device that 'auto' takes.
    const c10::Device device = choose_device("auto");
    Napi::Object precisions = Napi::Object::New(env);
    for (const auto& wanted : Names<Precision>::all) {
      precisions.Set(wanted.name, name_of(effective_precision(wanted.value, device)));
    }
    object.Set("precisions", precisions);
    object.Set("names", names(env));
    object.Set("variant", std::string(core_variant()));
    const AcceleratorReport& report = accelerators();
    std::vector<std::string> devices = {"cpu"};
    Napi::Array gpus = Napi::Array::New(env, report.devices.size());
    for (size_t i = 0; i < report.devices.size(); ++i) {
      const Accelerator& device = report.devices[i];
      if (device.problem.empty()) devices.push_back(device.name);
      Napi::Object gpu = Napi::Object::New(env);
      gpu.Set("name", device.name);
      gpu.Set("model", device.model);
      gpu.Set("computeCapability", device.compute_capability);
      gpu.Set("memory", static_cast<double>(device.memory));
      gpu.Set("problem", device.problem.empty() ? env.Null() : Napi::String::New(env, device.problem));
      gpus[static_cast<uint32_t>(i)] = gpu;
    }
    object.Set("devices", to_javascript(env, devices));
    object.Set("accelerators", gpus);
    object.Set("acceleratorProblem",
               report.problem.empty() ? env.Null() : Napi::String::New(env, report.problem));
    object.Set("autoDevice", device.str());
    const std::string recording = why_not_recorded(device);
    object.Set("recordingProblem", recording.empty() ? env.Null() : Napi::String::New(env, recording));
    return object;
  });
}

}  // namespace ltrp::binding
