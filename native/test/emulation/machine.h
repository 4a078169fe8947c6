// The emulated GPU: runs the blocks of a launch one after another, the threads of a block as fibers, and
// knows what each of them waits for. It refuses, with the threads and the source lines by name:
//
//   a __syncthreads() that not every thread of the block reaches, or that they reach at different places in
//   the source a warp primitive whose mask lacks its caller, names a lane that has ended, or is not reached
//   by a lane that it names a shuffle that reads a lane outside the mask or outside the block a launch beyond
//   the hardware's limits
//
// What is found inside a kernel ends the launch: every fiber unwinds, and launch() throws Failure.
#pragma once

#include <cstdint>
#include <functional>
#include <source_location>
#include <stdexcept>
#include <string>

#include "test/emulation/types.h"

namespace ltrp::emulation {

using Place = std::source_location;

// Something that CUDA does not define, or refuses; the message names block, threads and source lines.
struct Failure : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct Options {
  // Order of the blocks of a launch and of the threads between two barriers: 0 is ascending, any other number
  // picks a permutation. Results must not depend on it.
  uint64_t seed = 1;
  // Most shared memory of one block, static and dynamic: 227 KiB on sm_90 and sm_100, 163 on sm_80, 99 on
  // sm_86, 89, 120.
  int64_t shared_bytes = 227 * 1024;
};
Options& options();

// Runs `body` under natural order and some permutations of blocks and threads.
void in_every_order(const std::function<void()>& body);

// Runs `thread` once for every thread of the launch. Launches from several host threads wait for each other.
void run(dim3 grid, dim3 block, int64_t shared_bytes, Place place, const std::function<void()>& thread);

[[noreturn]] void fail(const std::string& message);
// "reduce.cu:57 `partial[i] = x;`", with the text where the source can be read.
// Of the source; empty where it cannot be read.
std::string source_line(Place place);
std::string describe(Place place);
// "thread (3,0,0) of block (0,0,0)": the one that runs.
std::string this_thread();

enum class Barrier { kPlain, kCount, kAnd, kOr };
int block_barrier(Barrier kind, bool predicate, Place place);

enum class WarpOperation {
  kSync,
  kShuffle,
  kShuffleUp,
  kShuffleDown,
  kShuffleXor,
  kBallot,
  kAny,
  kAll,
  kAdd,
  kMin,
  kMax,
  kMinSigned,
  kMaxSigned
};
// What this lane gets once all lanes of `mask` have called the same. `operand`: source lane, distance or lane
// mask of a shuffle; `width`: its segments.
uint64_t warp_collective(WarpOperation operation, unsigned mask, uint64_t value, unsigned operand, int width,
                         Place place);

// Throws Failure unless p is on a 16-byte boundary.
void require_aligned(const void* p);

// A thread's view of what its warp has synchronised, for the race detector.
struct Stamp {
  uint32_t clock;   // advances with the thread's every __syncwarp
  uint16_t thread;  // linear index in the block
};
Stamp stamp();
// Whether what `earlier` marks, in this barrier interval, is ordered before the running thread by __syncwarp.
bool ordered(Stamp earlier);
std::string thread_name(unsigned thread);
bool in_kernel();
uint32_t
interval();  // a number for every span between two barriers of a block; never 0, never twice the same
uint32_t block_run();  // a number for every block that ran; never 0
int64_t dynamic_bytes();
// Counts static shared memory of the running block; Failure over the limits.
void count_static(int64_t bytes);

}  // namespace ltrp::emulation
