#include "test/emulation/machine.h"

#include <algorithm>
#include <bit>
#include <cstdio>
#include <exception>
#include <fstream>
#include <limits>
#include <memory>
#include <mutex>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "test/emulation/fiber.h"

namespace ltrp::emulation {
namespace {

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

struct Machine {
  std::mutex launching;
  std::vector<std::unique_ptr<Thread>> pool;
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

Machine& machine() {
  static Machine instance;
  return instance;
}

uint64_t random_number() {  // xorshift64
  uint64_t& x = machine().random;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return x;
}

std::string triple(uint3 v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

std::string hex(unsigned mask) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08x", mask);
  return text;
}

bool same_place(const Place& a, const Place& b) {
  return a.line() == b.line() && a.column() == b.column() && std::string_view(a.file_name()) == b.file_name();
}

const char* name_of(Barrier kind) {
  switch (kind) {
    case Barrier::kPlain:
      return "__syncthreads";
    case Barrier::kCount:
      return "__syncthreads_count";
    case Barrier::kAnd:
      return "__syncthreads_and";
    case Barrier::kOr:
      return "__syncthreads_or";
  }
  return "";
}

const char* name_of(WarpOperation operation) {
  switch (operation) {
    case WarpOperation::kSync:
      return "__syncwarp";
    case WarpOperation::kShuffle:
      return "__shfl_sync";
    case WarpOperation::kShuffleUp:
      return "__shfl_up_sync";
    case WarpOperation::kShuffleDown:
      return "__shfl_down_sync";
    case WarpOperation::kShuffleXor:
      return "__shfl_xor_sync";
    case WarpOperation::kBallot:
      return "__ballot_sync";
    case WarpOperation::kAny:
      return "__any_sync";
    case WarpOperation::kAll:
      return "__all_sync";
    case WarpOperation::kAdd:
      return "__reduce_add_sync";
    case WarpOperation::kMin:
    case WarpOperation::kMinSigned:
      return "__reduce_min_sync";
    case WarpOperation::kMax:
    case WarpOperation::kMaxSigned:
      return "__reduce_max_sync";
  }
  return "";
}

// "thread (1,0,0) waits at the __syncthreads of reduce.cu:57 `...`"
std::string waiting(unsigned t) {
  const Thread& thread = *machine().pool[t];
  if (thread.state == State::kEnded) return thread_name(t) + " has ended";
  if (thread.state == State::kAtBarrier) {
    return thread_name(t) + " waits at the " + name_of(thread.barrier) + " of " + describe(thread.place);
  }
  return thread_name(t) + " waits at the " + name_of(thread.operation) + " (mask " + hex(thread.mask) +
         ") of " + describe(thread.place);
}

void wait() {
  Machine& m = machine();
  m.current->fiber->suspend();
  if (m.cancelling) throw Cancelled{};
}

void make_ready(unsigned t) {
  machine().pool[t]->state = State::kReady;
  machine().ready.push_back(t);
}

// The first lane's linear index of the running thread's warp, and how many lanes the block has there.
unsigned warp_begin() { return machine().current_index / kWarp * kWarp; }
unsigned warp_lanes() { return std::min(kWarp, machine().threads - warp_begin()); }

// Which lane this lane's shuffle reads; its own where the distance leads out of its segment (as the PTX
// manual defines shfl.sync's pval).
unsigned source_lane(const Thread& thread, unsigned lane) {
  const unsigned width = static_cast<unsigned>(thread.width);
  const unsigned begin = lane & ~(width - 1);
  switch (thread.operation) {
    case WarpOperation::kShuffle:
      return begin | (thread.operand & (width - 1));
    case WarpOperation::kShuffleUp:
      return thread.operand <= lane - begin ? lane - thread.operand : lane;
    case WarpOperation::kShuffleDown:
      return thread.operand < begin + width - lane ? lane + thread.operand : lane;
    default: {
      const unsigned source = lane ^ thread.operand;
      return source < begin + width ? source : lane;
    }
  }
}

bool is_shuffle(WarpOperation operation) {
  return operation >= WarpOperation::kShuffle && operation <= WarpOperation::kShuffleXor;
}

// Gives every lane of `lanes` its result; all of them wait for the same.
void complete(unsigned lanes) {
  Machine& m = machine();
  const unsigned begin = warp_begin();
  const WarpOperation operation = m.current->operation;
  const auto lane_of = [&](unsigned lane) -> Thread& { return *m.pool[begin + lane]; };
  const auto for_lanes = [&](auto&& body) {
    for (unsigned rest = lanes; rest != 0; rest &= rest - 1)
      body(static_cast<unsigned>(std::countr_zero(rest)));
  };
  if (is_shuffle(operation)) {
    for_lanes([&](unsigned lane) {
      Thread& thread = lane_of(lane);
      const unsigned source = source_lane(thread, lane);
      if (source >= kWarp || (lanes >> source & 1u) == 0) {
        fail(thread_name(begin + lane) + " reads lane " + std::to_string(source) + " by the " +
             name_of(operation) + " of " + describe(thread.place) + ", but " +
             (source >= warp_lanes()
                  ? "the block has only " + std::to_string(warp_lanes()) + " threads in that warp"
                  : "that lane is not in the mask " + hex(thread.mask)));
      }
      thread.result = lane_of(source).value;
    });
    return;
  }
  if (operation == WarpOperation::kSync) {
    uint32_t joined[kWarp] = {};
    for_lanes([&](unsigned lane) {
      for (unsigned l = 0; l < kWarp; ++l) joined[l] = std::max(joined[l], lane_of(lane).known[l]);
    });
    for_lanes([&](unsigned lane) {
      std::copy_n(joined, kWarp, lane_of(lane).known);
      ++lane_of(lane).known[lane];
    });
    return;
  }
  unsigned votes = 0;
  unsigned sum = 0;
  unsigned least = ~0u, most = 0;
  int least_signed = std::numeric_limits<int>::max(), most_signed = std::numeric_limits<int>::min();
  for_lanes([&](unsigned lane) {
    const unsigned value = static_cast<unsigned>(lane_of(lane).value);
    votes |= static_cast<unsigned>(value != 0) << lane;
    sum += value;
    least = std::min(least, value);
    most = std::max(most, value);
    least_signed = std::min(least_signed, static_cast<int>(value));
    most_signed = std::max(most_signed, static_cast<int>(value));
  });
  unsigned result = 0;
  switch (operation) {
    case WarpOperation::kBallot:
      result = votes;
      break;
    case WarpOperation::kAny:
      result = votes != 0;
      break;
    case WarpOperation::kAll:
      result = votes == lanes;
      break;
    case WarpOperation::kAdd:
      result = sum;
      break;
    case WarpOperation::kMin:
      result = least;
      break;
    case WarpOperation::kMax:
      result = most;
      break;
    case WarpOperation::kMinSigned:
      result = static_cast<unsigned>(least_signed);
      break;
    default:
      result = static_cast<unsigned>(most_signed);
      break;
  }
  for_lanes([&](unsigned lane) { lane_of(lane).result = result; });
}

// A thread's body has returned: nobody may still wait for it.
void check_end() {
  Machine& m = machine();
  if (m.at_barrier != 0) {
    fail("barrier divergence: " + this_thread() + " has ended while " + waiting(m.barrier_first));
  }
  const unsigned begin = warp_begin();
  for (unsigned lane = 0; lane < warp_lanes(); ++lane) {
    const Thread& other = *m.pool[begin + lane];
    if (other.state == State::kAtWarp && (other.mask >> (m.current_index - begin) & 1u) != 0) {
      fail("inactive lane: " + this_thread() + " has ended while " + waiting(begin + lane));
    }
  }
}

void thread_body(void*) {
  Machine& m = machine();
  try {
    (*m.body)();
    check_end();
  } catch (const Cancelled&) {
  } catch (...) {
    if (!m.failure) m.failure = std::current_exception();
  }
  m.current->state = State::kEnded;
  ++m.ended;
}

void resume(unsigned t) {
  Machine& m = machine();
  m.current = m.pool[t].get();
  m.current_index = t;
  threadIdx = m.current->index;
  m.current->begun = true;
  m.current->fiber->resume();
  m.current = nullptr;
}

void run_block() {
  Machine& m = machine();
  ++m.block_run;
  ++m.interval;
  m.at_barrier = m.ended = 0;
  m.static_bytes = 0;
  m.ready.clear();
  for (unsigned t = 0; t < m.threads; ++t) {
    Thread& thread = *m.pool[t];
    thread.index = {t % blockDim.x, t / blockDim.x % blockDim.y, t / (blockDim.x * blockDim.y)};
    std::fill_n(thread.known, kWarp, 0u);
    thread.known[t % kWarp] = 1;
    thread.begun = false;
    thread.fiber->start(&thread_body, nullptr);
    make_ready(t);
  }
  std::vector<unsigned> batch;
  while (m.ended < m.threads && !m.failure) {
    batch.swap(m.ready);
    m.ready.clear();
    if (batch.empty()) {
      // Nobody can go on. Name one waiting thread of each kind.
      std::string message = "deadlock in block " + triple(blockIdx) + ": ";
      if (m.at_barrier != 0) message += waiting(m.barrier_first) + ", ";
      for (unsigned t = 0; t < m.threads; ++t) {
        if (m.pool[t]->state != State::kAtWarp) continue;
        message += waiting(t) + ", ";
        break;
      }
      message += "and nobody else can come";
      m.failure = std::make_exception_ptr(Failure(message + " (launched at " + describe(m.launched) + ")"));
      break;
    }
    if (m.random != 0) {
      for (size_t i = batch.size(); i > 1; --i) std::swap(batch[i - 1], batch[random_number() % i]);
    } else {
      std::sort(batch.begin(), batch.end());
    }
    for (const unsigned t : batch) {
      resume(t);
      if (m.failure) break;
    }
  }
  if (!m.failure) return;
  // Those that wait unwind; those that have not begun never do.
  m.cancelling = true;
  for (unsigned t = 0; t < m.threads; ++t) {
    if (m.pool[t]->begun && m.pool[t]->state != State::kEnded) resume(t);
  }
  m.cancelling = false;
  std::rethrow_exception(std::exchange(m.failure, nullptr));
}

}  // namespace

Options& options() {
  static Options instance;
  return instance;
}

void in_every_order(const std::function<void()>& body) {
  const uint64_t before = options().seed;
  for (const uint64_t seed : {uint64_t{0}, uint64_t{1}, uint64_t{2}, uint64_t{3}}) {
    options().seed = seed;
    try {
      body();
    } catch (...) {
      options().seed = before;
      throw;
    }
  }
  options().seed = before;
}

void run(dim3 grid, dim3 block, int64_t shared_bytes, Place place, const std::function<void()>& thread) {
  Machine& m = machine();
  if (m.current != nullptr) fail("a kernel launches a kernel at " + describe(place));
  const std::lock_guard lock(m.launching);
  const auto refuse = [&](const std::string& what) {
    throw Failure("launch at " + describe(place) + ": " + what);
  };
  const auto sizes = [](dim3 v) { return triple({v.x, v.y, v.z}); };
  const int64_t threads = int64_t{block.x} * block.y * block.z;
  if (threads < 1 || block.x > kMaxThreads || block.y > kMaxThreads || block.z > 64 ||
      threads > kMaxThreads) {
    refuse("a block of " + sizes(block) + " threads; a block has 1 to 1024, and at most 64 along z");
  }
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7fffffffu || grid.y > 65535 || grid.z > 65535) {
    refuse("a grid of " + sizes(grid) + " blocks; each is at least 1 and at most 2147483647, 65535, 65535");
  }
  if (shared_bytes < 0 || shared_bytes > options().shared_bytes) {
    refuse(std::to_string(shared_bytes) + " bytes of dynamic shared memory; a block has at most " +
           std::to_string(options().shared_bytes));
  }
  while (m.pool.size() < static_cast<size_t>(threads)) {
    m.pool.push_back(std::make_unique<Thread>());
    m.pool.back()->fiber = std::make_unique<Fiber>();
  }
  m.threads = static_cast<unsigned>(threads);
  m.body = &thread;
  m.launched = place;
  m.dynamic_bytes = shared_bytes;
  m.random = options().seed * 0x9e3779b97f4a7c15u;
  gridDim = grid;
  blockDim = block;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  // Every block once, in the order of an affine map modulo their number.
  uint64_t step = 1, first = 0;
  if (m.random != 0) {
    first = random_number() % blocks;
    do step = 1 + random_number() % blocks;
    while (std::gcd(step, blocks) != 1);
  }
  for (uint64_t b = 0, at = first; b < blocks; ++b, at = (at + step) % blocks) {
    blockIdx = {static_cast<unsigned>(at % grid.x), static_cast<unsigned>(at / grid.x % grid.y),
                static_cast<unsigned>(at / grid.x / grid.y)};
    run_block();
  }
}

void fail(const std::string& message) {
  const Machine& m = machine();
  throw Failure(m.current == nullptr ? message
                                     : message + " (block " + triple(blockIdx) + ", launched at " +
                                           describe(m.launched) + ")");
}

std::string describe(Place place) {
  const std::string_view path = place.file_name();
  std::string text(path.substr(path.rfind('/') + 1));
  text += ":" + std::to_string(place.line());
  std::ifstream file{std::string(path)};
  std::string line;
  for (uint32_t i = 0; i < place.line() && std::getline(file, line); ++i) {
  }
  const size_t begin = line.find_first_not_of(' ');
  if (file && begin != std::string::npos) text += " `" + line.substr(begin) + "`";
  return text;
}

std::string thread_name(unsigned thread) { return "thread " + triple(machine().pool[thread]->index); }

std::string this_thread() { return thread_name(machine().current_index); }

bool in_kernel() { return machine().current != nullptr; }
uint32_t interval() { return machine().interval; }
uint32_t block_run() { return machine().block_run; }
int64_t dynamic_bytes() { return machine().dynamic_bytes; }

int block_barrier(Barrier kind, bool predicate, Place place) {
  Machine& m = machine();
  if (m.current == nullptr) fail(std::string(name_of(kind)) + " outside of a kernel, at " + describe(place));
  Thread& self = *m.current;
  self.place = place;
  self.barrier = kind;
  self.predicate = predicate;
  if (m.ended != 0) {
    unsigned t = 0;
    while (m.pool[t]->state != State::kEnded) ++t;
    self.state = State::kAtBarrier;
    fail("barrier divergence: " + waiting(m.current_index) + " while " + waiting(t));
  }
  if (m.at_barrier == 0) {
    m.barrier_first = m.current_index;
  } else {
    const Thread& first = *m.pool[m.barrier_first];
    if (first.barrier != kind || !same_place(first.place, place)) {
      self.state = State::kAtBarrier;
      fail("barrier divergence: " + waiting(m.current_index) + " while " + waiting(m.barrier_first));
    }
  }
  if (++m.at_barrier < m.threads) {
    self.state = State::kAtBarrier;
    wait();
    return m.barrier_result;
  }
  int yes = 0;
  for (unsigned t = 0; t < m.threads; ++t) yes += m.pool[t]->predicate;
  m.barrier_result = kind == Barrier::kCount ? yes
                     : kind == Barrier::kAnd ? yes == static_cast<int>(m.threads)
                                             : yes > 0;
  for (unsigned t = 0; t < m.threads; ++t) {
    if (t != m.current_index) make_ready(t);
  }
  m.at_barrier = 0;
  ++m.interval;
  // The last to come waits too: otherwise it would always be the first to go on.
  make_ready(m.current_index);
  wait();
  return m.barrier_result;
}

uint64_t warp_collective(WarpOperation operation, unsigned mask, uint64_t value, unsigned operand, int width,
                         Place place) {
  Machine& m = machine();
  if (m.current == nullptr)
    fail(std::string(name_of(operation)) + " outside of a kernel, at " + describe(place));
  Thread& self = *m.current;
  const unsigned begin = warp_begin();
  const unsigned own = m.current_index - begin;
  const auto what = [&] {
    return " in the mask " + hex(mask) + " of the " + name_of(operation) + " of " + describe(place);
  };
  if ((mask >> own & 1u) == 0) {
    fail("wrong mask: " + this_thread() + " is lane " + std::to_string(own) + ", which is not" + what() +
         " that it calls");
  }
  if (width < 1 || width > 32 || !std::has_single_bit(static_cast<unsigned>(width))) {
    fail(std::string(name_of(operation)) + " of " + describe(place) + ": width " + std::to_string(width) +
         " is not a power of two up to 32");
  }
  self.operation = operation;
  self.mask = mask;
  self.value = value;
  self.operand = operand;
  self.width = width;
  self.place = place;
  // Lanes that an incomplete warp does not have are named by the usual full mask; nobody waits for them.
  const unsigned lanes = warp_lanes() == kWarp ? mask : mask & ((1u << warp_lanes()) - 1);
  bool all = true;
  for (unsigned rest = lanes & ~(1u << own); rest != 0; rest &= rest - 1) {
    const unsigned lane = static_cast<unsigned>(std::countr_zero(rest));
    const Thread& other = *m.pool[begin + lane];
    if (other.state == State::kEnded) {
      fail("inactive lane: " + this_thread() + " names lane " + std::to_string(lane) + what() + ", but " +
           waiting(begin + lane));
    }
    if (other.state != State::kAtWarp || other.mask != mask) {
      all = false;
    } else if (other.operation != operation || !same_place(other.place, place)) {
      self.state = State::kAtWarp;
      fail("warp divergence: " + waiting(m.current_index) + " while " + waiting(begin + lane));
    }
  }
  self.state = State::kAtWarp;
  if (all) {
    complete(lanes);
    for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
      make_ready(begin + static_cast<unsigned>(std::countr_zero(rest)));
    }
  }
  wait();
  return self.result;
}

Stamp stamp() {
  const Machine& m = machine();
  return {m.current->known[m.current_index % kWarp], static_cast<uint16_t>(m.current_index)};
}

bool ordered(Stamp earlier) {
  const Machine& m = machine();
  if (earlier.thread == m.current_index) return true;
  if (earlier.thread / kWarp != m.current_index / kWarp) return false;
  return m.current->known[earlier.thread % kWarp] >= earlier.clock;
}

void count_static(int64_t bytes) {
  Machine& m = machine();
  m.static_bytes += bytes;
  if (m.static_bytes > kMaxStaticBytes) {
    fail(std::to_string(m.static_bytes) + " bytes of static shared memory; a block has at most 49152");
  }
  if (m.static_bytes + m.dynamic_bytes > options().shared_bytes) {
    fail(std::to_string(m.static_bytes) + " bytes of static and " + std::to_string(m.dynamic_bytes) +
         " of dynamic shared memory; a block has at most " + std::to_string(options().shared_bytes));
  }
}

void require_aligned(const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % 16 == 0) return;
  fail((in_kernel() ? this_thread() : std::string("host code")) +
       " accesses 16 bytes of global memory that are not on a 16-byte boundary");
}

}  // namespace ltrp::emulation
