// Which rows of a variant matter: the delta form leaves out those whose squared norms add up to next to
// nothing.
//
//   For each variant v with squares q[0..S): sort ascending, leave out the longest beginning whose sum is at
//   most tolerance * sum(q), but never the last; take back as many of it as fill the last group of rows; list
//   what is kept in order of (variant, slot).
//
// Two passes. The first sorts the slots of a variant by (square, slot) and finds the smallest key that is
// kept: that one number says of every slot whether it is kept. The second turns it into ids: a variant's ids
// start behind those of the variants before it, whose counts its block adds up itself (integers: any order
// gives the same sum), and within the variant a scan over the slots numbers them. No atomics, so the ids come
// out in the same order on every run.
//
// Bytes: 8 S a variant are read, 8 S + 12 written, and the second pass reads 4 v counts for variant v, out of
// the L2 cache. Work: S log2(S)^2 / 4 exchanges, for S = 196 some 9,000. Both passes are over in the time
// of a launch for the few hundred variants of a chunk.
#include <stdexcept>

#include "kernels/cuda/block_scan.cuh"
#include "kernels/cuda/block_sort.cuh"
#include "kernels/cuda/launchers.h"

namespace ltrp::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kCompactThreads = 128;

__device__ __forceinline__ int unread_slot(const args::LargeRows& a) {
  return a.unread != nullptr ? a.unread[blockIdx.x] : -1;
}

// Pass 1. Grid: one block a variant, blockDim.x <= padded / 2 threads; shared memory: `padded` keys. Sums are
// float64: a tolerance of 1e-6 of the sum is below what float32 resolves.
__global__ __launch_bounds__(kThreads) void find_threshold(args::LargeRows a, int padded) {
  const DynamicShared<uint64_t> keys(0, padded);
  __shared__ Shared<double, 32> sums;
  __shared__ Shared<int, 32> firsts;
  const int slots = static_cast<int>(a.slots);
  const int unread = unread_slot(a);
  const float* squares = a.squares + blockIdx.x * a.slots;
  double own = 0;
  for (int slot = static_cast<int>(threadIdx.x); slot < padded; slot += static_cast<int>(blockDim.x)) {
    uint64_t key = kLastKey;
    if (slot < slots) {
      const float square = slot == unread ? 0.0F : __ldg(squares + slot);
      own += static_cast<double>(square);
      key = rising_key(square, static_cast<uint32_t>(slot));
    }
    keys.store(slot, key);
  }
  const double sum = block_reduce(own, Add(), sums);
  block_sort(keys, padded);

  // Not finite (or negative through a negative tolerance): nothing is left out.
  const bool finite = sum - sum == 0;
  const double allowed = finite ? a.tolerance * sum : -1;
  const int each = (padded + static_cast<int>(blockDim.x) - 1) / static_cast<int>(blockDim.x);
  const int begin = static_cast<int>(threadIdx.x) * each;
  const int end = begin + each < slots - 1 ? begin + each : slots - 1;  // the last is always kept
  double chunk = 0;
  for (int place = begin; place < end; ++place) {
    chunk += static_cast<double>(float_of_ordered(upper_half(keys.load(place))));
  }
  double left_out = block_scan(chunk, 0.0, Add(), sums).before;
  int first = slots - 1;
  for (int place = begin; place < end; ++place) {
    left_out += static_cast<double>(float_of_ordered(upper_half(keys.load(place))));
    if (!(left_out <= allowed)) {
      first = place;
      break;
    }
  }
  first = block_reduce(first, Smaller(), firsts);
  if (finite) {
    const int together = static_cast<int>(a.together);
    const int more = (together - (slots - first) % together) % together;
    first -= first < more ? first : more;
  }
  if (threadIdx.x == 0) {
    a.threshold[blockIdx.x] = keys.load(first);
    a.count[blockIdx.x] = slots - first;
  }
}

// Pass 2. Grid: one block of 128 threads a variant.
__global__ __launch_bounds__(kCompactThreads) void list_kept(args::LargeRows a) {
  __shared__ Shared<int, 32> partial;
  const int slots = static_cast<int>(a.slots), variant = static_cast<int>(blockIdx.x);
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  int before = 0;
  for (int other = thread; other < variant; other += threads) before += a.count[other];
  int next = block_reduce(before, Add(), partial);
  const float* squares = a.squares + blockIdx.x * a.slots;
  const uint64_t threshold = a.threshold[variant];
  const int unread = unread_slot(a);
  for (int start = 0; start < slots; start += threads) {
    const int slot = start + thread, id = variant * slots + slot;
    bool kept = false;
    if (slot < slots) {
      const float square = slot == unread ? 0.0F : __ldg(squares + slot);
      kept = rising_key(square, static_cast<uint32_t>(slot)) >= threshold;
    }
    const Scanned<int> place = block_scan(kept ? 1 : 0, 0, Add(), partial);
    if (kept) a.ids[next + place.before] = id;
    if (slot < slots && a.packed_row != nullptr) a.packed_row[id] = kept ? next + place.before : -1;
    next += place.total;
  }
  if (blockIdx.x + 1 == gridDim.x && thread == 0) *a.total = next;
}

}  // namespace

void launch_large_rows(const args::LargeRows& arguments, int64_t variants, Stream stream) {
  if (arguments.slots < 1 || arguments.slots > args::kMostSorted) {
    throw std::invalid_argument("rows can be left out of variants of 1 to 4096 rows only");
  }
  if (arguments.together < 1 || arguments.together > INT32_MAX) {
    throw std::invalid_argument("rows are kept in groups of one or more");
  }
  if (variants * arguments.slots > INT32_MAX) {
    throw std::invalid_argument("a set of variants has at most 2^31 - 1 rows");
  }
  if (variants < 1) return;
  const int padded = padded_to_power(arguments.slots, 64);
  const unsigned threads = padded / 2 < static_cast<int>(kThreads) ? padded / 2 : kThreads;
  const dim3 grid(static_cast<unsigned>(variants));
  launch(find_threshold, grid, dim3(threads), padded * static_cast<int64_t>(sizeof(uint64_t)), stream,
         arguments, padded);
  launch(list_kept, grid, dim3(kCompactThreads), 0, stream, arguments);
}

}  // namespace ltrp::cuda
