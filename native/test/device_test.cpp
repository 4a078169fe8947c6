// What the driver's answers mean for the device that is chosen; none of it needs a GPU.
#include "core/device/accelerators.h"

#include <doctest/doctest.h>

#include "core/error.h"
#include "kernels/cuda/devices.h"

namespace {

using ltrp::AcceleratorReport;
using ltrp::choose_device;
using ltrp::CodeVersions;
using ltrp::judge;
using ltrp::cuda::DriverAnswer;
using ltrp::cuda::Gpu;

constexpr CodeVersions kAll{"80,86,89,90,100,120", "120"};

DriverAnswer with(std::vector<Gpu> gpus) {
  DriverAnswer answer;
  answer.driver_version = 13000;
  answer.runtime_version = 13000;
  answer.gpus = std::move(gpus);
  return answer;
}

std::string refusal(const std::string& name, const AcceleratorReport& report) {
  try {
    choose_device(name, report);
  } catch (const ltrp::Error& error) {
    return std::string(error.code()) + " " + error.what();
  }
  return "";
}

}  // namespace

TEST_CASE("a GPU that the core has code for is taken by 'auto', 'cuda' and its number") {
  const AcceleratorReport report =
      judge(with({{"NVIDIA H100", 9, 0, 80'000'000'000}, {"NVIDIA L4", 8, 9, 24'000'000'000}}), kAll);
  CHECK(report.problem.empty());
  CHECK(choose_device("auto", report) == c10::Device(c10::kCUDA, 0));
  CHECK(choose_device("cuda", report) == c10::Device(c10::kCUDA, 0));
  CHECK(choose_device("cuda:1", report) == c10::Device(c10::kCUDA, 1));
  CHECK(choose_device("cpu", report) == c10::Device(c10::kCPU));
  CHECK(report.devices[1].compute_capability == "8.9");
  CHECK(refusal("cuda:2", report).find("this machine has 2") != std::string::npos);
}

TEST_CASE("machine code runs within its major version, PTX on every later one") {
  const auto usable = [](int major, int minor, CodeVersions code) {
    return judge(with({{"GPU", major, minor, 1}}), code).usable() != nullptr;
  };
  CHECK(usable(8, 0, {"80", ""}));
  CHECK(usable(8, 7, {"80", ""}));
  CHECK_FALSE(usable(8, 0, {"86", ""}));
  CHECK_FALSE(usable(9, 0, {"80", ""}));
  CHECK(usable(9, 0, {"80", "80"}));
  CHECK_FALSE(usable(8, 0, {"90", "90"}));
  CHECK(usable(12, 1, kAll));
  CHECK(usable(13, 0, kAll));
  CHECK(usable(10, 3, kAll));
  CHECK_FALSE(usable(7, 5, kAll));
}

TEST_CASE("'auto' passes over a GPU that cannot be used, and 'cuda' says why") {
  const AcceleratorReport report = judge(with({{"Tesla T4", 7, 5, 1}, {"NVIDIA A100", 8, 0, 1}}), kAll);
  CHECK(report.problem.empty());
  CHECK(choose_device("auto", report) == c10::Device(c10::kCUDA, 1));
  CHECK(refusal("cuda:0", report).find("Tesla T4 has compute capability 7.5") != std::string::npos);
  const AcceleratorReport none = judge(with({{"Tesla T4", 7, 5, 1}}), kAll);
  CHECK(choose_device("auto", none) == c10::Device(c10::kCPU));
  CHECK(none.problem.find("compute capability 7.5") != std::string::npos);
}

TEST_CASE("no driver, a driver that is too old, no GPU and any other failure are told apart") {
  DriverAnswer answer;
  answer.runtime_version = 13000;
  answer.error = 35;
  answer.error_text = "CUDA driver version is insufficient for CUDA runtime version";
  const auto told = [&](const char* words) {
    const AcceleratorReport report = judge(answer, kAll);
    CHECK(choose_device("auto", report) == c10::Device(c10::kCPU));
    const std::string message = refusal("cuda", report);
    CAPTURE(message);
    CHECK(message.starts_with("ERR_LTRP_UNSUPPORTED device 'cuda' is not available: "));
    CHECK(message.find(words) != std::string::npos);
  };
  told("no NVIDIA driver");
  answer.driver_version = 12040;
  told("supports CUDA 12.4, this core needs CUDA 13 (CUDA driver version is insufficient");
  answer.driver_version = 13000;
  answer.error = 100;
  answer.error_text = "no CUDA-capable device is detected";
  told("no NVIDIA GPU");
  answer.error = 999;
  answer.error_text = "unknown error";
  told("CUDA does not start: unknown error");
  // A GPU that fails while it is asked.
  answer.gpus = {{"NVIDIA H100", 9, 0, 1}};
  told("CUDA does not start: unknown error");
}

TEST_CASE("words that name no device are refused") {
  const AcceleratorReport report = judge(with({{"NVIDIA H100", 9, 0, 1}}), kAll);
  for (const char* word : {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:4000000000", "CPU"}) {
    CAPTURE(word);
    CHECK(refusal(word, report).starts_with("ERR_LTRP_INVALID_ARGUMENT device must be one of"));
  }
}

TEST_CASE("this core says what it is, and 'auto' always leads to a device") {
  CHECK((ltrp::core_variant() == "cpu" || ltrp::core_variant().starts_with("cu1")));
  const AcceleratorReport& report = ltrp::accelerators();
  CHECK((report.usable() == nullptr) == !report.problem.empty());
  if (ltrp::core_variant() == "cpu") {
    CHECK(refusal("cuda", report).find("built without CUDA") != std::string::npos);
  }
  CHECK_NOTHROW(choose_device("auto"));
}
