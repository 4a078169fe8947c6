// Global memory is the process's own: AddressSanitizer checks it, on the fibers' stacks as anywhere else.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <string>
#include <utility>
#include <vector>

#include "kernels/cuda/device.h"

#if defined(__SANITIZE_ADDRESS__)
#define LTRP_TEST_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LTRP_TEST_ASAN 1
#endif
#endif

namespace ltrp::test {
namespace {

using namespace ltrp::cuda;

// Sums of neighbours, through a barrier, so that the threads have changed places before they reach for x.
__global__ void neighbours(const float* x, int n, int bound, float* y) {
  __shared__ Shared<float, 64> row;
  const int t = static_cast<int>(threadIdx.x);
  row[t] = 1.0f;
  __syncthreads();
  if (t < n) y[t] = x[t] + (t < bound ? x[t + 1] : 0.0f) + row[63 - t];
}

void run(int bound) {
  const std::vector<float> x(50, 2.0f);
  std::vector<float> y(50, 0.0f);
  launch(neighbours, 1, 64, 0, nullptr, x.data(), 50, bound, y.data());
  CHECK(y[0] == 5.0f);
  CHECK(y[49] == 3.0f);
}

// Runs `body` in a child; what it wrote to stderr, and whether it ended well.
template <typename Body>
std::pair<std::string, bool> in_child(const Body& body) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    // Neither doctest's handler nor its report of the crash.
    std::signal(SIGSEGV, SIG_DFL);
    dup2(open("/dev/null", O_WRONLY), STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    close(ends[0]);
    close(ends[1]);
    body();
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char buffer[4096];
  for (ssize_t n = 0; (n = read(ends[0], buffer, sizeof(buffer))) > 0;)
    text.append(buffer, static_cast<size_t>(n));
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  return {text, WIFEXITED(status) && WEXITSTATUS(status) == 0};
}

TEST_CASE("a kernel within the bounds of global memory passes") {
  emulation::in_every_order([] { run(49); });
}

TEST_CASE("planted off-by-one on global memory") {
#if defined(LTRP_TEST_ASAN)
  const auto [text, well] = in_child([] { run(50); });
  CHECK(!well);
  CAPTURE(text);
  CHECK(text.find("heap-buffer-overflow") != std::string::npos);
  CHECK(text.find("READ of size 4") != std::string::npos);
  CHECK(text.find("0 bytes") != std::string::npos);  // right behind the array
#else
  MESSAGE("skipped: needs a build with LTRP_SANITIZE=address");
#endif
}

// The fibers' own stacks are guarded and annotated.
__global__ void local_array(int index, int* y) {
  int local[8];
  for (int i = 0; i < 8; ++i) local[i] = i;
  __syncthreads();
  volatile int* p = local;
  y[threadIdx.x] = p[index];
}

TEST_CASE("planted off-by-one on a thread's local array") {
  std::vector<int> y(8);
  launch(local_array, 1, 8, 0, nullptr, 7, y.data());
  CHECK(y[7] == 7);
#if defined(LTRP_TEST_ASAN)
  const auto [text, well] = in_child([&] { launch(local_array, 1, 8, 0, nullptr, 8, y.data()); });
  CHECK(!well);
  CAPTURE(text);
  // Whichever sanitizer is first: UndefinedBehaviorSanitizer may know the size of the array.
  const bool named = text.find("stack-buffer-overflow") != std::string::npos ||
                     text.find("insufficient space") != std::string::npos;
  CHECK(named);
#endif
}

// Every frame takes some hundred bytes; the compiler must not turn the recursion into a loop.
int descend(int depth, volatile char* above) {
  volatile char frame[256];
  frame[0] = above[0];
  return depth == 0 ? frame[0] : descend(depth - 1, frame) + frame[0];
}
__global__ void deep(int depth, int* y) {
  volatile char first = 1;
  *y = descend(depth, &first);
}

TEST_CASE("an overflow of a fiber's stack ends the process; it does not reach its neighbour's") {
  int y = 0;
  launch(deep, 1, 1, 0, nullptr, 20, &y);
  CHECK(y == 21);
  const auto [text, well] = in_child([&] { launch(deep, 1, 1, 0, nullptr, 1 << 20, &y); });
  CHECK(!well);
}

}  // namespace
}  // namespace ltrp::test
