#include "kernels/queue.h"

#include <mutex>

#include "kernels/backend.h"

namespace ltrp {

namespace {

std::mutex problem_mutex;
std::string& problem_text() {
  static std::string text;
  return text;
}

}  // namespace

std::unique_ptr<Queue> open_queue(c10::Device device) { return backend_of(device.type()).open_queue(device); }

std::string recording_problem() {
  const std::lock_guard lock(problem_mutex);
  return problem_text();
}

void note_recording_problem(const std::string& problem) {
  const std::lock_guard lock(problem_mutex);
  if (problem_text().empty()) problem_text() = problem;
}

}  // namespace ltrp
