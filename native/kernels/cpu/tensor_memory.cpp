#include "kernels/cpu/tensor_memory.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <bit>
#include <map>
#include <mutex>
#include <vector>

namespace ltrp::cpu {

namespace {

constexpr size_t kSmallestKept = size_t{64} << 10;  // the C library keeps smaller blocks itself
constexpr size_t kMostKept = size_t{512} << 20;
constexpr size_t kHeader = 64;  // tensors begin at multiples of it

// In front of a tensor's memory.
struct Header {
  size_t size;  // of the memory behind
};

// Sizes that share blocks: an eighth of a power of two apart.
size_t rounded_up(size_t size) {
  const size_t step = std::bit_floor(size) / 8;
  return (size + step - 1) / step * step;
}

class KeepingAllocator final : public c10::Allocator {
 public:
  explicit KeepingAllocator(c10::Allocator& system) : system_(system) {}

  c10::DataPtr allocate(size_t size) override {
    const bool keeps = size >= kSmallestKept;
    const size_t block = keeps ? rounded_up(size) : size;
    char* begin = keeps ? take(block) : nullptr;
    if (begin == nullptr) begin = ask(block);
    reinterpret_cast<Header*>(begin)->size = block;
    char* data = begin + kHeader;
    return {data, data, &give_back, c10::Device(c10::kCPU)};
  }

  c10::DeleterFnPtr raw_deleter() const override { return &give_back; }

  void copy_data(void* to, const void* from, size_t count) const override {
    default_copy_data(to, from, count);
  }

  void release() {
    std::map<size_t, std::vector<char*>> unused;
    {
      const std::lock_guard lock(mutex_);
      unused.swap(unused_);
      kept_ = 0;
    }
    for (const auto& [size, blocks] : unused) {
      for (char* block : blocks) system_.raw_deallocate(block);
    }
  }

  static KeepingAllocator& instance() {
    // Tensors of static storage outlive everything else.
    static auto* allocator = new KeepingAllocator(*c10::GetDefaultCPUAllocator());
    return *allocator;
  }

 private:
  char* take(size_t size) {
    const std::lock_guard lock(mutex_);
    const auto found = unused_.find(size);
    if (found == unused_.end() || found->second.empty()) return nullptr;
    // The last one may still be in the processor's cache.
    char* block = found->second.back();
    found->second.pop_back();
    kept_ -= size;
    return block;
  }

  char* ask(size_t size) {
    try {
      return static_cast<char*>(system_.raw_allocate(kHeader + size));
    } catch (const c10::Error&) {
      release();
      return static_cast<char*>(system_.raw_allocate(kHeader + size));
    }
  }

  bool keep(char* block, size_t size) {
    const std::lock_guard lock(mutex_);
    if (kept_ + size > kMostKept) return false;
    unused_[size].push_back(block);
    kept_ += size;
    return true;
  }

  static void give_back(void* data) {
    if (data == nullptr) return;
    char* block = static_cast<char*>(data) - kHeader;
    const size_t size = reinterpret_cast<Header*>(block)->size;
    KeepingAllocator& allocator = instance();
    if (size < kSmallestKept || !allocator.keep(block, size)) allocator.system_.raw_deallocate(block);
  }

  c10::Allocator& system_;
  std::mutex mutex_;
  std::map<size_t, std::vector<char*>> unused_;  // by size, without the header
  size_t kept_ = 0;                              // bytes in it
};

#if defined(__SANITIZE_ADDRESS__)
constexpr bool kKeeps = false;
#else
constexpr bool kKeeps = true;
#endif

}  // namespace

void keep_tensor_memory() {
  if (kKeeps) c10::SetCPUAllocator(&KeepingAllocator::instance(), /*priority=*/1);
}

void release_tensor_memory() {
  if (kKeeps) KeepingAllocator::instance().release();
}

}  // namespace ltrp::cpu
