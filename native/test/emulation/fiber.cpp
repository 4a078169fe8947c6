#include "test/emulation/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstring>
#include <new>

#if defined(__SANITIZE_ADDRESS__)
#define LTRP_FIBER_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define LTRP_FIBER_ASAN 1
#endif
#endif
#if defined(LTRP_FIBER_ASAN)
#include <sanitizer/common_interface_defs.h>
#endif

// void ltrp_fiber_switch(void** save, void* load): pushes what a callee must preserve, stores the stack
// pointer at `save`, takes `load` as the stack pointer and pops the same from there. ucontext would ask the
// kernel for the signal mask at every switch, which costs a hundred times as much.
#if defined(__x86_64__)
asm(R"(
.text
.p2align 4
.globl ltrp_fiber_switch
.hidden ltrp_fiber_switch
.type ltrp_fiber_switch,@function
ltrp_fiber_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size ltrp_fiber_switch,.-ltrp_fiber_switch
)");
#elif defined(__aarch64__)
asm(R"(
.text
.p2align 4
.globl ltrp_fiber_switch
.hidden ltrp_fiber_switch
.type ltrp_fiber_switch,%function
ltrp_fiber_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0]
  stp x21, x22, [sp, #16]
  stp x23, x24, [sp, #32]
  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64]
  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96]
  stp d10, d11, [sp, #112]
  stp d12, d13, [sp, #128]
  stp d14, d15, [sp, #144]
  mov x2, sp
  str x2, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0]
  ldp x21, x22, [sp, #16]
  ldp x23, x24, [sp, #32]
  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64]
  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96]
  ldp d10, d11, [sp, #112]
  ldp d12, d13, [sp, #128]
  ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size ltrp_fiber_switch,.-ltrp_fiber_switch
)");
#endif
#if !defined(LTRP_FIBER_UCONTEXT)
extern "C" void ltrp_fiber_switch(void** save, void* load);
#endif

namespace ltrp::emulation {
namespace {

#if defined(LTRP_FIBER_ASAN)
constexpr size_t kStackBytes = 512 * 1024;  // red zones around every local array; unoptimised temporaries
#else
constexpr size_t kStackBytes = 128 * 1024;  // address space: only pages that are touched take memory
#endif

Fiber* entering = nullptr;  // for enter(), which has no argument

}  // namespace

Fiber::Fiber() : guard_(static_cast<size_t>(sysconf(_SC_PAGESIZE))), size_(kStackBytes) {
  void* memory = mmap(nullptr, guard_ + size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  memory_ = static_cast<char*>(memory);
  if (mprotect(memory_, guard_, PROT_NONE) != 0) {
    munmap(memory_, guard_ + size_);
    throw std::bad_alloc();
  }
  // Stacks that all began at the same offset into a page would compete for the same few lines of the cache.
  static unsigned colour = 0;
  char* top = memory_ + guard_ + size_ - 64 * (colour++ % 64);
#if defined(LTRP_FIBER_UCONTEXT)
  static_cast<void>(top);
  getcontext(&context_);
  context_.uc_stack.ss_sp = memory_ + guard_;
  context_.uc_stack.ss_size = size_;
  makecontext(&context_, &Fiber::enter, 0);
#else
  // The frame that the first switch pops: zeros, and enter() as the address to return to. A function expects
  // its stack pointer at 8 modulo 16 on x86-64 (its return address was just pushed), at 0 on aarch64.
  const auto entry = reinterpret_cast<uintptr_t>(&Fiber::enter);
#if defined(__x86_64__)
  char* frame = top - 64;  // six registers, the address, and a zero where a caller's frame would be
  std::memset(frame, 0, 64);
  std::memcpy(frame + 6 * 8, &entry, sizeof(entry));
#else
  char* frame = top - 160;
  std::memset(frame, 0, 160);
  std::memcpy(frame + 88, &entry, sizeof(entry));  // x30
#endif
  stack_pointer_ = frame;
#endif
}

Fiber::~Fiber() { munmap(memory_, guard_ + size_); }

void Fiber::start(void (*body)(void*), void* argument) {
  body_ = body;
  argument_ = argument;
}

void Fiber::switch_in() {
#if defined(LTRP_FIBER_UCONTEXT)
  swapcontext(&caller_context_, &context_);
#else
  ltrp_fiber_switch(&caller_stack_pointer_, stack_pointer_);
#endif
}

void Fiber::switch_out() {
#if defined(LTRP_FIBER_UCONTEXT)
  swapcontext(&context_, &caller_context_);
#else
  ltrp_fiber_switch(&stack_pointer_, caller_stack_pointer_);
#endif
}

void Fiber::resume() {
  entering = this;
#if defined(LTRP_FIBER_ASAN)
  __sanitizer_start_switch_fiber(&caller_fake_stack_, memory_ + guard_, size_);
#endif
  switch_in();
#if defined(LTRP_FIBER_ASAN)
  __sanitizer_finish_switch_fiber(caller_fake_stack_, nullptr, nullptr);
#endif
}

void Fiber::suspend() {
#if defined(LTRP_FIBER_ASAN)
  __sanitizer_start_switch_fiber(&fake_stack_, caller_bottom_, caller_size_);
#endif
  switch_out();
#if defined(LTRP_FIBER_ASAN)
  __sanitizer_finish_switch_fiber(fake_stack_, &caller_bottom_, &caller_size_);
#endif
}

// The bottom of every stack: bodies one after another, for ever; the memory goes when the fiber is destroyed.
void Fiber::enter() {
  Fiber* self = entering;
#if defined(LTRP_FIBER_ASAN)
  __sanitizer_finish_switch_fiber(nullptr, &self->caller_bottom_, &self->caller_size_);
#endif
  for (;;) {
    self->body_(self->argument_);
    self->body_ = nullptr;
    self->suspend();
  }
}

}  // namespace ltrp::emulation
