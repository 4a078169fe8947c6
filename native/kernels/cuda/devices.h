// What CUDA says about this machine's GPUs. Plain types, so that whoever judges the answer needs no CUDA.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ltrp::cuda {

struct Gpu {
  std::string model;  // for example NVIDIA H100 80GB HBM3
  int major = 0;      // compute capability
  int minor = 0;
  int64_t memory = 0;  // bytes
};

struct DriverAnswer {
  int error = 0;            // of cudaGetDeviceCount: 0, or a cudaError_t
  std::string error_text;   // CUDA's own words for it
  int driver_version = 0;   // what the driver supports, as 1000 * major + 10 * minor; 0: no driver
  int runtime_version = 0;  // what this core was compiled with
  std::vector<Gpu> gpus;
};

// Asks the driver; throws nothing. Creates no context, so it costs no GPU memory.
DriverAnswer ask_driver();

}  // namespace ltrp::cuda
