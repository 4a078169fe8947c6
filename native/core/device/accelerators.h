// Which devices this core computes on, and why not on others.
#pragma once

#include <c10/core/Device.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ltrp {

namespace cuda {
struct DriverAnswer;
}

struct Accelerator {
  std::string name;                // as it is asked for: cuda:0
  std::string model;               // for example NVIDIA H100 80GB HBM3
  std::string compute_capability;  // for example 9.0
  int64_t memory = 0;              // bytes
  std::string problem;             // why it cannot be used; empty when it can
};

struct AcceleratorReport {
  std::vector<Accelerator> devices;
  // Why there is none that can be used, a sentence without its full stop; empty when there is one.
  std::string problem;

  // The first that can be used, or nullptr.
  const Accelerator* usable() const;
};

// For which compute capabilities a core has code, as 10 * major + minor, separated by commas: machine code
// (`real`), which runs on the same major version from that minor on, and PTX, which the driver compiles for
// that capability and every later one.
struct CodeVersions {
  std::string_view real;
  std::string_view ptx;
};

// `cpu`, or `cu` and a CUDA version: the end of this core's file name.
std::string_view core_variant();

// Asked of the driver once.
const AcceleratorReport& accelerators();

// What `answer` means for a core with that code.
AcceleratorReport judge(const cuda::DriverAnswer& answer, CodeVersions code);

// The device for 'auto' (the first that can be used, else the CPU), 'cpu', 'cuda' (cuda:0) or 'cuda:N'.
// Error(kUnsupported) with the reason when it cannot be used, Error(kInvalidArgument) for any other word.
c10::Device choose_device(const std::string& name, const AcceleratorReport& report = accelerators());

// Why work cannot be recorded on that device, and is queued step by step, in the device's words; empty where
// it can, and on a CPU. Tries it.
std::string why_not_recorded(c10::Device device);

}  // namespace ltrp
