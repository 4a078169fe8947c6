// What the emulated GPU keeps about the launch that runs; for the files of this folder that make it up.
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "test/emulation/fiber.h"
#include "test/emulation/machine.h"

namespace ltrp::emulation {

constexpr int64_t kMaxThreads = 1024;
constexpr int64_t kMaxStaticBytes = 48 * 1024;
constexpr unsigned kWarp = 32;

// Unwinds the fibers of a launch that has failed. Not an std::exception, so that no kernel's handler takes
// it.
struct Cancelled {};

enum class State { kReady, kAtBarrier, kAtWarp, kEnded };

struct Thread {
  std::unique_ptr<Fiber> fiber;
  uint3 index{};
  State state = State::kReady;
  bool begun = false;
  Place place;  // of what it waits for
  Barrier barrier = Barrier::kPlain;
  bool predicate = false;
  WarpOperation operation = WarpOperation::kSync;
  unsigned mask = 0;
  uint64_t value = 0;
  unsigned operand = 0;
  int width = 0;
  uint64_t result = 0;
  // known[l]: up to which of its clocks lane l of this warp is ordered before this thread. Own entry: own
  // clock.
  uint32_t known[kWarp] = {};
};

// Lanes of one warp that wait for the same call.
struct Meeting {
  unsigned mask;
  unsigned arrived;
};

// Has several meetings where its lanes are on different paths.
struct Warp {
  std::vector<Meeting> meetings;
  unsigned ended = 0;
};

struct Machine {
  std::mutex launching;
  std::vector<std::unique_ptr<Thread>> pool;
  Warp warps[kMaxThreads / kWarp];
  unsigned threads = 0;
  Thread* current = nullptr;
  unsigned current_index = 0;
  std::vector<unsigned> ready;
  unsigned at_barrier = 0;
  unsigned ended = 0;
  unsigned barrier_first = 0;
  int barrier_result = 0;
  bool cancelling = false;
  std::exception_ptr failure;
  const std::function<void()>* body = nullptr;
  Place launched;
  uint64_t random = 0;
  uint32_t interval = 0;
  uint32_t block_run = 0;
  int64_t static_bytes = 0;
  int64_t dynamic_bytes = 0;
};

Machine& machine();

// Suspends the running thread until somebody has made it ready.
void wait();
void make_ready(unsigned t);
// Of the running thread: its warp, the linear index of the warp's first lane, how many lanes the block has
// there.
Warp& own_warp();
unsigned warp_begin();
unsigned warp_lanes();

std::string triple(uint3 v);     // "(1,2,3)"
std::string hex(unsigned mask);  // "0x0000ffff"
const char* name_of(Barrier kind);
const char* name_of(WarpOperation operation);
// "thread (1,0,0) waits at the __syncthreads of reduce.cu:57 `...`", or that it has ended
std::string waiting(unsigned t);
// Whether the two are one call in the source.
bool same_place(const Place& a, const Place& b);

}  // namespace ltrp::emulation
