#include "kernels/cuda/devices.h"

// The emulation has no driver to ask.
#if !defined(LTRP_EMULATE_CUDA)
#include <cuda_runtime_api.h>

namespace ltrp::cuda {

DriverAnswer ask_driver() {
  DriverAnswer answer;
  // Neither of the two needs a GPU; without a driver its version is 0.
  cudaDriverGetVersion(&answer.driver_version);
  cudaRuntimeGetVersion(&answer.runtime_version);
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  for (int i = 0; status == cudaSuccess && i < count; ++i) {
    cudaDeviceProp properties{};
    status = cudaGetDeviceProperties(&properties, i);
    if (status == cudaSuccess) {
      answer.gpus.push_back({properties.name, properties.major, properties.minor,
                             static_cast<int64_t>(properties.totalGlobalMem)});
    }
  }
  if (status != cudaSuccess) {
    answer.error = status;
    answer.error_text = cudaGetErrorString(status);
    cudaGetLastError();  // not to be taken for the error of a later call
  }
  return answer;
}

}  // namespace ltrp::cuda
#endif
