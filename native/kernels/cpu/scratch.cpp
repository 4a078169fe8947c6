#include "kernels/cpu/scratch.h"

#include <ATen/ceil_div.h>

#include <cstdlib>
#include <memory>
#include <new>

namespace ltrp::cpu {

namespace {

struct Free {
  void operator()(float* memory) const { std::free(memory); }
};

}  // namespace

float* scratch(int64_t floats) {
  thread_local std::unique_ptr<float, Free> memory;
  thread_local int64_t size = 0;
  if (floats > size) {
    const auto wanted = at::round_up<int64_t>(floats, 16);  // aligned_alloc wants whole lines
    memory.reset();
    size = 0;
    memory.reset(static_cast<float*>(std::aligned_alloc(64, static_cast<size_t>(wanted) * sizeof(float))));
    if (memory == nullptr) throw std::bad_alloc();
    size = wanted;
  }
  return memory.get();
}

}  // namespace ltrp::cpu
