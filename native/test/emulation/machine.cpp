#include <algorithm>
#include <exception>
#include <numeric>
#include <utility>

#include "test/emulation/state.h"

namespace ltrp::emulation {
namespace {

uint64_t random_number() {  // xorshift64
  uint64_t& x = machine().random;
  x ^= x << 13;
  x ^= x >> 7;
  x ^= x << 17;
  return x;
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
  own_warp().ended |= 1u << (m.current_index % kWarp);
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
  for (Warp& warp : m.warps) {
    warp.meetings.clear();
    warp.ended = 0;
  }
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
      for (size_t i = batch.size(); i > 1; --i)
        std::swap(batch[i - 1], batch[(random_number() >> 32) * i >> 32]);
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

Machine& machine() {
  static Machine instance;
  return instance;
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

Warp& own_warp() { return machine().warps[machine().current_index / kWarp]; }
unsigned warp_begin() { return machine().current_index / kWarp * kWarp; }
unsigned warp_lanes() { return std::min(kWarp, machine().threads - warp_begin()); }

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
