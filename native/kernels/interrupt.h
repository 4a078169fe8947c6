// Ending work that nobody wants any more. Kernels do not know who asks for it or why; whoever runs a job
// gives its flag to the thread, and everything that takes longer than some tens of milliseconds looks at it
// in between.
#pragma once

#include <atomic>
#include <exception>

namespace ltrp {

// Ends a computation whose flag was set.
class Interrupted : public std::exception {
 public:
  const char* what() const noexcept override { return "The operation was cancelled."; }
};

// The flag of a thread's work. Taken by the thread that was given the work, and carried by value into the
// parallel regions that it opens.
class Interrupt {
 public:
  // None: the work runs to its end.
  explicit Interrupt(const std::atomic<bool>* flag) : flag_(flag) {}
  // Of the work that this thread does.
  static Interrupt current() { return Interrupt(of_thread); }

  bool asked() const { return flag_ != nullptr && flag_->load(std::memory_order_relaxed); }
  // Throws Interrupted.
  void check() const {
    if (asked()) throw Interrupted();
  }

 private:
  friend class InterruptScope;
  static inline thread_local const std::atomic<bool>* of_thread = nullptr;
  const std::atomic<bool>* flag_;
};

// While it exists, what its thread does ends when `interrupt` is asked to.
class InterruptScope {
 public:
  explicit InterruptScope(Interrupt interrupt) : before_(Interrupt::of_thread) {
    Interrupt::of_thread = interrupt.flag_;
  }
  ~InterruptScope() { Interrupt::of_thread = before_; }
  InterruptScope(const InterruptScope&) = delete;
  InterruptScope& operator=(const InterruptScope&) = delete;

 private:
  const std::atomic<bool>* before_;
};

}  // namespace ltrp
