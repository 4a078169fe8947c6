// Threads of control that change places when they say so: a stack of its own each, one host thread for all of
// them.
#pragma once

#include <cstddef>

#if !defined(__x86_64__) && !defined(__aarch64__)
#include <ucontext.h>
#define LTRP_FIBER_UCONTEXT 1
#endif

namespace ltrp::emulation {

// Runs bodies one after another on its own guarded stack. resume() enters or continues the body and returns
// when it suspends or ends; suspend() is called in the body. An overflow of the stack is a segmentation
// fault, not silence.
class Fiber {
 public:
  // std::bad_alloc without memory for a stack.
  Fiber();
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  // Sets what the next resume() starts. The previous body has ended. A body must not throw.
  void start(void (*body)(void*), void* argument);
  void resume();
  void suspend();
  bool ended() const { return body_ == nullptr; }

 private:
  static void enter();
  void switch_in();
  void switch_out();

  char* memory_ = nullptr;  // guard page, then the stack
  size_t guard_ = 0;
  size_t size_ = 0;
  void (*body_)(void*) = nullptr;
  void* argument_ = nullptr;
#if defined(LTRP_FIBER_UCONTEXT)
  ucontext_t context_{};
  ucontext_t caller_context_{};
#else
  void* stack_pointer_ = nullptr;
  void* caller_stack_pointer_ = nullptr;
#endif
  // AddressSanitizer's: the other stack's extent, and what it keeps for each side.
  const void* caller_bottom_ = nullptr;
  size_t caller_size_ = 0;
  void* fake_stack_ = nullptr;
  void* caller_fake_stack_ = nullptr;
};

}  // namespace ltrp::emulation
