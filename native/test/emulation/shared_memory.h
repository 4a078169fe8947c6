// Shared memory with a record of who touched what: refuses accesses out of bounds, reads of what no thread of
// the block has written, and races (two threads, the same bytes, at least one of them writing, no barrier
// between). Between two
// __syncthreads() only __syncwarp() orders the lanes of a warp: shuffles and votes do not order memory in
// CUDA.
#pragma once

#include <concepts>
#include <cstring>
#include <memory>
#include <type_traits>
#include <vector>

#include "test/emulation/machine.h"

namespace ltrp::emulation {

// Bytes of shared memory and, for every granule of them, the last write and up to two reads since.
class Memory {
 public:
  Memory(unsigned char* bytes, int64_t size, int granule);

  // Called before any access: the first one of a block finds the memory filled with 0xff (a NaN in every
  // format). True when this block had not touched the memory before.
  bool renew();
  // Cells become as small as an element of the smallest type that views the memory.
  void refine(int granule);
  void resize(unsigned char* bytes, int64_t size);

  struct Access {
    Stamp stamp{};
    Place place{};
    bool present = false;
  };
  struct Cell {
    uint32_t interval = 0;  // when the accesses were; of an earlier one they no longer matter
    uint32_t written = 0;   // block_run() of the last write
    Access write;
    Access reads[2];
  };
  std::vector<Cell> cells;
  unsigned char* bytes;
  int64_t size;
  int granule;

 private:
  uint32_t block_ = 0;
};

// An array in a Memory, as the kernel declared it.
struct View {
  Memory* memory;
  int64_t offset;
  int64_t count;
  int64_t element;
  Place declared;
};

enum class Mode { kRead, kWrite };
// `elements` elements of `view` from `index` on, checked and recorded. Their first byte.
unsigned char* access(const View& view, int64_t index, int64_t elements, Mode mode, Place place);
unsigned char* access16(const View& view, int64_t index, Mode mode, Place place);
Memory& dynamic_memory();
View dynamic_view(int64_t offset, int64_t count, int64_t element, int64_t alignment, Place declared);

inline constexpr int granule_of(int64_t size, int64_t alignment) {
  const int64_t largest = alignment < 4 ? alignment : 4;
  return static_cast<int>(size % largest == 0 ? largest : 1);
}

// An index and where in the source it is used.
struct Index {
  template <std::integral I>
  Index(I i, Place place_ = Place::current()) : value(static_cast<int64_t>(i)), place(place_) {}

  int64_t value;
  Place place;
};

// array[i]: reads when it is converted, writes when it is assigned to. Cannot be kept (`auto x = array[i]`).
template <typename T>
class Element {
 public:
  Element(const View& view, Index index) : view_(view), index_(index) {}
  Element(const Element&) = delete;

  operator T() const&& { return get(); }
  T operator=(const T& value) && { return set(value); }
  T operator=(Element&& other) && { return set(other.get()); }
  template <typename V>
  T operator+=(const V& value) && {
    return set(static_cast<T>(get() + value));
  }
  template <typename V>
  T operator-=(const V& value) && {
    return set(static_cast<T>(get() - value));
  }
  template <typename V>
  T operator*=(const V& value) && {
    return set(static_cast<T>(get() * value));
  }
  template <typename V>
  T operator/=(const V& value) && {
    return set(static_cast<T>(get() / value));
  }
  template <typename V>
  T operator|=(const V& value) && {
    return set(static_cast<T>(get() | value));
  }
  template <typename V>
  T operator&=(const V& value) && {
    return set(static_cast<T>(get() & value));
  }
  template <typename V>
  T operator^=(const V& value) && {
    return set(static_cast<T>(get() ^ value));
  }

 private:
  T get() const {
    T value;
    std::memcpy(static_cast<void*>(&value), access(view_, index_.value, 1, Mode::kRead, index_.place),
                sizeof(T));
    return value;
  }
  T set(const T& value) const {
    std::memcpy(access(view_, index_.value, 1, Mode::kWrite, index_.place), &value, sizeof(T));
    return value;
  }

  View view_;
  Index index_;
};

// What Shared and DynamicShared have in common; Derived has view().
template <typename Derived, typename T>
class Array {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Element<T> operator[](Index i) const { return Element<T>(view(), i); }
  T load(Index i) const { return Element<T>(view(), i); }
  void store(Index i, const T& value) const { Element<T>(view(), i) = value; }
  float4 load4(Index i) const {
    float4 value;
    std::memcpy(&value, access16(view(), i.value, Mode::kRead, i.place), 16);
    return value;
  }
  void store4(Index i, float4 value) const {
    std::memcpy(access16(view(), i.value, Mode::kWrite, i.place), &value, 16);
  }

 private:
  View view() const { return static_cast<const Derived*>(this)->view(); }
};

template <typename T, int N>
class Shared : public Array<Shared<T, N>, T> {
  static_assert(N > 0);

 public:
  constexpr explicit Shared(Place declared = Place::current()) : declared_(declared) {}
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;

  static constexpr int size() { return N; }
  View view() const {
    if (!memory_) {
      memory_ = std::make_unique<Memory>(bytes_, int64_t{N} * sizeof(T), granule_of(sizeof(T), alignof(T)));
    }
    if (memory_->renew()) count_static(static_cast<int64_t>(sizeof(bytes_)));
    return {memory_.get(), 0, N, sizeof(T), declared_};
  }

 private:
  Place declared_;
  mutable std::unique_ptr<Memory> memory_;
  alignas(16) mutable unsigned char bytes_[sizeof(T) * N]{};
};

template <typename T>
class DynamicShared : public Array<DynamicShared<T>, T> {
 public:
  DynamicShared(int64_t offset_bytes, int64_t count, Place declared = Place::current())
      : view_(dynamic_view(offset_bytes, count, sizeof(T), alignof(T), declared)) {}

  View view() const { return view_; }

 private:
  View view_;
};

}  // namespace ltrp::emulation
