// CUDA's language on the CPU, for the tests: what native/kernels/cuda/device.h includes when
// LTRP_EMULATE_CUDA is defined. machine.h says what is checked about threads, shared_memory.h what about
// memory; global memory is the program's own, and AddressSanitizer's to check.
#pragma once

#include <tuple>

#include "kernels/cuda/stream.h"
#include "test/emulation/conversions.h"
#include "test/emulation/machine.h"
#include "test/emulation/math.h"
#include "test/emulation/shared_memory.h"
#include "test/emulation/types.h"

namespace ltrp::emulation {

// A grid and where it was launched.
struct Grid {
  Grid(dim3 size_, Place place_ = Place::current()) : size(size_), place(place_) {}
  template <std::integral I>
  Grid(I x, Place place_ = Place::current()) : size(static_cast<unsigned>(x)), place(place_) {}

  dim3 size;
  Place place;
};

// Runs the kernel to its end; the stream is ignored. Failure for everything that the emulation refuses, and
// whatever a kernel throws.
template <typename... Parameters, typename... Arguments>
void launch(void (*kernel)(Parameters...), Grid grid, dim3 block, int64_t shared_bytes, ltrp::cuda::Stream,
            Arguments&&... arguments) {
  static_assert(sizeof...(Parameters) == sizeof...(Arguments),
                "one argument for each of the kernel's parameters");
  const std::tuple<std::decay_t<Parameters>...> copies(static_cast<Parameters>(arguments)...);
  run(grid.size, block, shared_bytes, grid.place, [&] { std::apply(kernel, copies); });
}

// What a warp can exchange.
template <typename T>
concept Exchangeable =
    (std::is_arithmetic_v<T> && (sizeof(T) == 4 || sizeof(T) == 8)) || std::is_same_v<T, __half> ||
    std::is_same_v<T, __half2> || std::is_same_v<T, __nv_bfloat16> || std::is_same_v<T, __nv_bfloat162>;

template <Exchangeable T>
T shuffle(WarpOperation operation, unsigned mask, T value, unsigned operand, int width, Place place) {
  uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof(T));
  bits = warp_collective(operation, mask, bits, operand, width, place);
  std::memcpy(static_cast<void*>(&value), &bits, sizeof(T));
  return value;
}

}  // namespace ltrp::emulation

inline void __syncthreads(ltrp::emulation::Place place = ltrp::emulation::Place::current()) {
  ltrp::emulation::block_barrier(ltrp::emulation::Barrier::kPlain, false, place);
}
inline int __syncthreads_count(int predicate,
                               ltrp::emulation::Place place = ltrp::emulation::Place::current()) {
  return ltrp::emulation::block_barrier(ltrp::emulation::Barrier::kCount, predicate != 0, place);
}
inline int __syncthreads_and(int predicate,
                             ltrp::emulation::Place place = ltrp::emulation::Place::current()) {
  return ltrp::emulation::block_barrier(ltrp::emulation::Barrier::kAnd, predicate != 0, place);
}
inline int __syncthreads_or(int predicate, ltrp::emulation::Place place = ltrp::emulation::Place::current()) {
  return ltrp::emulation::block_barrier(ltrp::emulation::Barrier::kOr, predicate != 0, place);
}
inline void __syncwarp(unsigned mask = 0xffffffffu,
                       ltrp::emulation::Place place = ltrp::emulation::Place::current()) {
  ltrp::emulation::warp_collective(ltrp::emulation::WarpOperation::kSync, mask, 0, 0, 32, place);
}

template <ltrp::emulation::Exchangeable T>
T __shfl_sync(unsigned mask, T value, int lane, int width = warpSize,
              ltrp::emulation::Place place = ltrp::emulation::Place::current()) {
  return ltrp::emulation::shuffle(ltrp::emulation::WarpOperation::kShuffle, mask, value,
                                  static_cast<unsigned>(lane), width, place);
}
template <ltrp::emulation::Exchangeable T>
T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                 ltrp::emulation::Place place = ltrp::emulation::Place::current()) {
  return ltrp::emulation::shuffle(ltrp::emulation::WarpOperation::kShuffleUp, mask, value, delta, width,
                                  place);
}
template <ltrp::emulation::Exchangeable T>
T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = warpSize,
                   ltrp::emulation::Place place = ltrp::emulation::Place::current()) {
  return ltrp::emulation::shuffle(ltrp::emulation::WarpOperation::kShuffleDown, mask, value, delta, width,
                                  place);
}
template <ltrp::emulation::Exchangeable T>
T __shfl_xor_sync(unsigned mask, T value, int lane_mask, int width = warpSize,
                  ltrp::emulation::Place place = ltrp::emulation::Place::current()) {
  return ltrp::emulation::shuffle(ltrp::emulation::WarpOperation::kShuffleXor, mask, value,
                                  static_cast<unsigned>(lane_mask), width, place);
}

inline unsigned __ballot_sync(unsigned mask, int predicate,
                              ltrp::emulation::Place place = ltrp::emulation::Place::current()) {
  return static_cast<unsigned>(ltrp::emulation::warp_collective(ltrp::emulation::WarpOperation::kBallot, mask,
                                                                predicate != 0, 0, 32, place));
}
inline int __any_sync(unsigned mask, int predicate,
                      ltrp::emulation::Place place = ltrp::emulation::Place::current()) {
  return static_cast<int>(ltrp::emulation::warp_collective(ltrp::emulation::WarpOperation::kAny, mask,
                                                           predicate != 0, 0, 32, place));
}
inline int __all_sync(unsigned mask, int predicate,
                      ltrp::emulation::Place place = ltrp::emulation::Place::current()) {
  return static_cast<int>(ltrp::emulation::warp_collective(ltrp::emulation::WarpOperation::kAll, mask,
                                                           predicate != 0, 0, 32, place));
}

// Sums, minima and maxima of integers over a warp (sm_80 and later).
#define LTRP_EMULATION_REDUCE(type, name, operation)                                                   \
  inline type name(unsigned mask, type value,                                                          \
                   ltrp::emulation::Place place = ltrp::emulation::Place::current()) {                 \
    return static_cast<type>(ltrp::emulation::warp_collective(                                         \
        ltrp::emulation::WarpOperation::operation, mask, static_cast<unsigned>(value), 0, 32, place)); \
  }
LTRP_EMULATION_REDUCE(unsigned, __reduce_add_sync, kAdd)
LTRP_EMULATION_REDUCE(int, __reduce_add_sync, kAdd)
LTRP_EMULATION_REDUCE(unsigned, __reduce_min_sync, kMin)
LTRP_EMULATION_REDUCE(int, __reduce_min_sync, kMinSigned)
LTRP_EMULATION_REDUCE(unsigned, __reduce_max_sync, kMax)
LTRP_EMULATION_REDUCE(int, __reduce_max_sync, kMaxSigned)
#undef LTRP_EMULATION_REDUCE
