#include "core/device/accelerators.h"

#include <charconv>

#include "core/error.h"
#include "kernels/cuda/devices.h"
#include "kernels/recordings.h"

namespace ltrp {
namespace {

constexpr std::string_view kPrefix = "cuda:";

// Of cudaError_t, whose numbers CUDA keeps.
constexpr int kInsufficientDriver = 35;
constexpr int kNoDevice = 100;

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::vector<int> numbers(std::string_view list) {
  std::vector<int> values;
  while (!list.empty()) {
    const size_t end = list.find(',');
    int value = 0;
    std::from_chars(list.data(), list.data() + std::min(end, list.size()), value);
    values.push_back(value);
    list.remove_prefix(end == std::string_view::npos ? list.size() : end + 1);
  }
  return values;
}

bool runs_on(CodeVersions code, int capability) {
  for (const int real : numbers(code.real)) {
    if (real / 10 == capability / 10 && real <= capability) return true;
  }
  for (const int ptx : numbers(code.ptx)) {
    if (ptx <= capability) return true;
  }
  return false;
}

std::string driver_problem(const cuda::DriverAnswer& answer) {
  if (answer.driver_version == 0) return "no NVIDIA driver is installed on this machine (libcuda.so.1)";
  if (answer.error == kInsufficientDriver || answer.driver_version < answer.runtime_version / 1000 * 1000) {
    return "the NVIDIA driver is too old: it supports CUDA " + version_text(answer.driver_version) +
           ", this core needs CUDA " + std::to_string(answer.runtime_version / 1000) + " (" +
           answer.error_text + ")";
  }
  if (answer.error == kNoDevice || (answer.error == 0 && answer.gpus.empty())) {
    return "there is a driver, and no NVIDIA GPU that this process may use (CUDA_VISIBLE_DEVICES)";
  }
  return "CUDA does not start: " + answer.error_text;
}

}  // namespace

const Accelerator* AcceleratorReport::usable() const {
  for (const Accelerator& device : devices) {
    if (device.problem.empty()) return &device;
  }
  return nullptr;
}

std::string_view core_variant() { return LTRP_VARIANT; }

const AcceleratorReport& accelerators() {
#if defined(LTRP_CUDA)
  static const AcceleratorReport report = judge(cuda::ask_driver(), {LTRP_CUDA_REAL, LTRP_CUDA_PTX});
#else
  static const AcceleratorReport report{{},
                                        "this core was built without CUDA; the npm package ltrp-cuda (in a "
                                        "clone `npm run build -- --cuda`) and "
                                        "`ltrp libtorch install --cuda` bring one that has it"};
#endif
  return report;
}

AcceleratorReport judge(const cuda::DriverAnswer& answer, CodeVersions code) {
  AcceleratorReport report;
  for (size_t i = 0; i < answer.gpus.size(); ++i) {
    const cuda::Gpu& gpu = answer.gpus[i];
    Accelerator device;
    device.name = std::string(kPrefix) + std::to_string(i);
    device.model = gpu.model;
    device.compute_capability = std::to_string(gpu.major) + "." + std::to_string(gpu.minor);
    device.memory = gpu.memory;
    if (!runs_on(code, 10 * gpu.major + gpu.minor)) {
      device.problem = gpu.model + " has compute capability " + device.compute_capability +
                       ", and this core has code for " + std::string(code.real) + " and PTX for " +
                       (code.ptx.empty() ? "none" : std::string(code.ptx));
    }
    report.devices.push_back(std::move(device));
  }
  if (answer.error != 0 || report.devices.empty()) {
    report.problem = driver_problem(answer);
    for (Accelerator& device : report.devices) device.problem = report.problem;
  } else if (report.usable() == nullptr) {
    report.problem = report.devices.front().problem;
  }
  return report;
}

c10::Device choose_device(const std::string& name, const AcceleratorReport& report) {
  const auto number_of = [](std::string_view device) -> c10::DeviceIndex {
    int number = -1;
    const char* end = device.data() + device.size();
    if (!device.starts_with(kPrefix)) return -1;
    const auto [stop, error] = std::from_chars(device.data() + kPrefix.size(), end, number);
    if (error != std::errc() || stop != end || number < 0 || number > 127) return -1;
    return static_cast<c10::DeviceIndex>(number);
  };
  if (name == "cpu") return c10::kCPU;
  if (name == "auto") {
    const Accelerator* device = report.usable();
    return device == nullptr ? c10::Device(c10::kCPU) : c10::Device(c10::kCUDA, number_of(device->name));
  }
  const c10::DeviceIndex number = name == "cuda" ? c10::DeviceIndex{0} : number_of(name);
  if (number < 0) {
    throw Error(codes::kInvalidArgument,
                "device must be one of 'auto', 'cpu', 'cuda', 'cuda:N'; got \"" + name.substr(0, 60) + "\".");
  }
  std::string reason = report.problem;
  if (static_cast<size_t>(number) < report.devices.size()) {
    reason = report.devices[static_cast<size_t>(number)].problem;
    if (reason.empty()) return {c10::kCUDA, number};
  } else if (reason.empty()) {
    reason = "this machine has " + std::to_string(report.devices.size()) + " of them";
  }
  throw Error(codes::kUnsupported,
              "device '" + name + "' is not available: " + reason + ". Use 'auto' or 'cpu'.");
}

std::string why_not_recorded(c10::Device device) { return recording_check(device); }

}  // namespace ltrp
