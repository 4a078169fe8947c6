// Tensors where the kernels look for them: the emulation's device is the CPU. And the bound of every kernel's
// error: twice that of plain LibTorch in the same precision.
#pragma once

#include <ATen/ATen.h>
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <vector>

#include "core/random.h"
#include "test/delta_support.h"

#if defined(LTRP_EMULATE_CUDA)
#include "test/emulation/machine.h"
#else
#include <cuda_runtime.h>
#endif

namespace ltrp::test {

#if defined(LTRP_EMULATE_CUDA)
inline at::Device device() { return at::kCPU; }
inline void finish() {}
#else
inline at::Device device() { return at::kCUDA; }
inline void finish() { REQUIRE(cudaDeviceSynchronize() == cudaSuccess); }
#endif

// A copy of its own, contiguous; `offset` elements behind a 16-byte boundary.
inline at::Tensor on_device(const at::Tensor& x, int64_t offset = 0) {
  at::Tensor room = at::empty({x.numel() + offset}, x.options().device(device()));
  at::Tensor result = room.narrow(0, offset, x.numel()).view(x.sizes());
  result.copy_(x);
  return result;
}

// Filled with what no kernel may leave behind: NaN, or the largest integer.
inline at::Tensor room_on_device(at::IntArrayRef shape, at::ScalarType type = at::kFloat,
                                 int64_t offset = 0) {
  at::Tensor room = at::empty(shape, at::dtype(type));
  if (at::isFloatingType(type)) {
    room.fill_(std::numeric_limits<double>::quiet_NaN());
  } else {
    room.fill_(type == at::kByte || type == at::kChar ? 77 : 0x7ffffff7);
  }
  return on_device(room, offset);
}

inline at::Tensor on_host(const at::Tensor& x) {
  finish();
  return x.to(at::kCPU);
}

inline at::Tensor uniform(at::IntArrayRef shape, uint64_t seed, double low = 0, double high = 1) {
  return at::empty(shape, at::kFloat).uniform_(low, high, generator_for(seed, 31));
}

inline double largest_error(const at::Tensor& x, const at::Tensor& exact) {
  return (x.to(at::kDouble) - exact).abs().max().item<double>();
}

// Errors of a kernel and of LibTorch, over many cases: the kernel's largest may be twice LibTorch's, where
// that is more than what storing a float32 costs anyway. Each case counts in units of its own `scale`.
class ErrorBound {
 public:
  void add(const at::Tensor& got, const at::Tensor& plain, const at::Tensor& exact) {
    REQUIRE(got.sizes() == exact.sizes());
    const double scale = std::max(exact.abs().max().item<double>(), 1e-300);
    REQUIRE(std::isfinite(largest_error(got, exact)));
    got_ = std::max(got_, largest_error(got, exact) / scale);
    plain_ = std::max(plain_, largest_error(plain, exact) / scale);
  }
  void check() const {
    if (std::getenv("LTRP_SHOW_ERRORS") != nullptr)
      MESSAGE("errors: ", got_, " here, ", plain_, " in LibTorch");
    CAPTURE(got_);
    CAPTURE(plain_);
    CHECK(got_ <= std::max(2 * plain_, std::ldexp(1.0, -24)));
  }

 private:
  double got_ = 0;
  double plain_ = 0;
};

inline bool same(const at::Tensor& a, const at::Tensor& b) {
  return a.sizes() == b.sizes() && at::equal(a.to(at::kCPU), b.to(at::kCPU));
}

// Same shapes, same bits.
inline bool same_bits(const std::vector<at::Tensor>& a, const std::vector<at::Tensor>& b) {
  bool result = a.size() == b.size();
  for (size_t i = 0; result && i < a.size(); ++i) {
    const at::Tensor x = a[i].contiguous().view({-1}), y = b[i].contiguous().view({-1});
    result = a[i].sizes() == b[i].sizes() && at::equal(x.view(at::kByte), y.view(at::kByte));
  }
  return result;
}

// The tensors that body() yields do not depend on the order in which blocks and threads run: the emulation's
// orders one by one, or whatever a GPU does.
template <typename Body>
void check_every_order(Body body) {
  const std::vector<at::Tensor> first = body();
  const auto again = [&] { CHECK(same_bits(body(), first)); };
#if defined(LTRP_EMULATE_CUDA)
  emulation::in_every_order(again);
#else
  for (int i = 0; i < 4; ++i) again();
#endif
}

}  // namespace ltrp::test
