// Lets tests that hand a CPU's tensors to kernels run on a GPU unchanged: LibTorch's CPU memory is managed by
// CUDA, which both sides can read, and every launch waits for its kernel.
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/util/Exception.h>
#include <cuda_runtime_api.h>

#include <cstdlib>

namespace ltrp::bench::gpu {
namespace {

void release(void* memory) {
  // At the end of the process CUDA may be gone already, and with it the memory.
  if (memory != nullptr) static_cast<void>(cudaFree(memory));
}

class ManagedMemory final : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* memory = nullptr;
    if (bytes > 0) {
      const cudaError_t status = cudaMallocManaged(&memory, bytes);
      TORCH_CHECK(status == cudaSuccess, "managed memory: ", cudaGetErrorString(status));
    }
    return {memory, memory, &release, c10::Device(c10::kCPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

[[maybe_unused]] const bool installed = [] {
  setenv("CUDA_LAUNCH_BLOCKING", "1", /*overwrite=*/1);
  static ManagedMemory memory;
  c10::SetCPUAllocator(&memory, /*priority=*/100);
  return true;
}();

}  // namespace
}  // namespace ltrp::bench::gpu
