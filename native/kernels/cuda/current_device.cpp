#include "kernels/cuda/current_device.h"

#include <ATen/cuda/CUDAContext.h>
#include <c10/cuda/CUDACachingAllocator.h>

namespace ltrp::cuda {

Stream current_stream() { return at::cuda::getCurrentCUDAStream().stream(); }

int compute_capability() {
  const cudaDeviceProp* properties = at::cuda::getCurrentDeviceProperties();
  return 10 * properties->major + properties->minor;
}

int64_t free_memory() {
  size_t free = 0, total = 0;
  C10_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  const auto stats = c10::cuda::CUDACachingAllocator::getDeviceStats(c10::cuda::current_device());
  const size_t kept = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return static_cast<int64_t>(free) + stats.reserved_bytes[kept].current -
         stats.allocated_bytes[kept].current;
}

}  // namespace ltrp::cuda
