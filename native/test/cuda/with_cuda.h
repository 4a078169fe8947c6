// Models and operators on device() compute with CUDA's kernels while one of these lives. (The emulation's
// device is the CPU, which has a backend of its own.)
#pragma once

#include "kernels/backend.h"
#include "kernels/cuda/backend.h"
#include "test/cuda/device_tensors.h"

namespace ltrp::test {

class WithCuda {
 public:
  WithCuda() : before_(register_backend(device().type(), &cuda_backend())) {}
  ~WithCuda() { register_backend(device().type(), before_); }
  WithCuda(const WithCuda&) = delete;
  WithCuda& operator=(const WithCuda&) = delete;

 private:
  const Backend* before_;
};

}  // namespace ltrp::test
