#include "test/emulation/shared_memory.h"

#include <algorithm>
#include <cctype>
#include <string>

namespace ltrp::emulation {
namespace {

// The name that is declared there (`Shared<float, 32> name`), or "shared array" where the source cannot be
// read.
std::string name_of(Place declared) {
  const std::string line = source_line(declared);
  size_t at = line.find("Shared<");
  if (at != std::string::npos) {
    at = line.find('<', at);
    for (int depth = 0; at < line.size(); ++at) {
      depth += line[at] == '<';
      depth -= line[at] == '>';
      if (depth == 0) break;
    }
    at = line.find_first_not_of(' ', at + 1);
  }
  std::string name;
  for (; at < line.size(); ++at) {
    if (std::isalnum(static_cast<unsigned char>(line[at])) == 0 && line[at] != '_') break;
    name += line[at];
  }
  return name.empty() ? "shared array" : name;
}

// "partial[3] (of 32, declared at reduce.cu:14 `...`)"
std::string element_name(const View& view, int64_t index) {
  return name_of(view.declared) + "[" + std::to_string(index) + "] (of " + std::to_string(view.count) +
         ", declared at " + describe(view.declared) + ")";
}

std::string range(int64_t index, int64_t elements) {
  return elements == 1 ? "" : " to " + std::to_string(index + elements - 1);
}

[[noreturn]] void report_race(const View& view, int64_t index, const Memory::Access& earlier,
                              Mode earlier_mode, Mode mode, Place place) {
  fail("race on " + element_name(view, index) + ": " + thread_name(earlier.stamp.thread) +
       (earlier_mode == Mode::kWrite ? " writes it at " : " reads it at ") + describe(earlier.place) + ", " +
       this_thread() + (mode == Mode::kWrite ? " writes it at " : " reads it at ") + describe(place) +
       ", and no barrier orders the two");
}

// Keeps the read among the cell's two. One that is ordered before this read has nothing to add to it; of the
// others two are enough, for whoever writes is another thread than one of them.
void note_read(Memory::Cell& cell, const Memory::Access& read) {
  for (Memory::Access& slot : cell.reads) {
    if (!slot.present || ordered(slot.stamp)) {
      slot = read;
      return;
    }
  }
  const auto warp = [](const Memory::Access& a) { return a.stamp.thread / warpSize; };
  if (warp(cell.reads[0]) == warp(cell.reads[1])) cell.reads[1] = read;
}

}  // namespace

Memory::Memory(unsigned char* bytes_, int64_t size_, int granule_) : granule(granule_) {
  resize(bytes_, size_);
}

void Memory::resize(unsigned char* bytes_, int64_t size_) {
  bytes = bytes_;
  size = size_;
  cells.assign(static_cast<size_t>((size + granule - 1) / granule), Cell());
}

bool Memory::renew() {
  if (!in_kernel()) fail("shared memory is used outside of a kernel");
  if (block_ == block_run()) return false;
  block_ = block_run();
  std::memset(bytes, 0xff, static_cast<size_t>(size));
  return true;
}

void Memory::refine(int smaller) {
  if (smaller >= granule) return;
  const size_t parts = static_cast<size_t>(granule / smaller);
  std::vector<Cell> refined(cells.size() * parts);
  for (size_t i = 0; i < refined.size(); ++i) refined[i] = cells[i / parts];
  cells.swap(refined);
  granule = smaller;
}

unsigned char* access(const View& view, int64_t index, int64_t elements, Mode mode, Place place) {
  Memory& memory = *view.memory;
  if (index < 0 || index + elements > view.count) {
    fail("out of bounds: " + this_thread() + (mode == Mode::kWrite ? " writes " : " reads ") +
         element_name(view, index) + range(index, elements) + " at " + describe(place));
  }
  const int64_t begin = view.offset + index * view.element;
  const int64_t end = begin + elements * view.element;
  const Memory::Access now{stamp(), place, true};
  for (int64_t c = begin / memory.granule; c * memory.granule < end; ++c) {
    Memory::Cell& cell = memory.cells[static_cast<size_t>(c)];
    const auto at = [&] { return std::max(index, (c * memory.granule - view.offset) / view.element); };
    if (cell.interval != interval()) {
      cell.interval = interval();
      cell.write.present = cell.reads[0].present = cell.reads[1].present = false;
    }
    if (cell.write.present && !ordered(cell.write.stamp)) {
      report_race(view, at(), cell.write, Mode::kWrite, mode, place);
    }
    if (mode == Mode::kRead) {
      if (cell.written != block_run()) {
        fail("uninitialised: " + this_thread() + " reads " + element_name(view, at()) + " at " +
             describe(place) + ", which no thread of the block has written");
      }
      note_read(cell, now);
    } else {
      for (const Memory::Access& read : cell.reads) {
        if (read.present && !ordered(read.stamp)) report_race(view, at(), read, Mode::kRead, mode, place);
      }
      cell.write = now;
      cell.written = block_run();
    }
  }
  return memory.bytes + begin;
}

unsigned char* access16(const View& view, int64_t index, Mode mode, Place place) {
  if (16 % view.element != 0 || (view.offset + index * view.element) % 16 != 0) {
    fail("misaligned: " + this_thread() + " accesses 16 bytes at " + element_name(view, index) + " at " +
         describe(place) + ", which are not whole elements on a 16-byte boundary");
  }
  return access(view, index, 16 / view.element, mode, place);
}

Memory& dynamic_memory() {
  static std::vector<float4> bytes;
  static Memory memory(nullptr, 0, 4);
  if (!in_kernel()) fail("dynamic shared memory is used outside of a kernel");
  const size_t needed = static_cast<size_t>(dynamic_bytes() + 15) / 16;
  if (memory.size != dynamic_bytes()) {
    bytes.assign(needed, float4());
    memory.granule = 4;
    memory.resize(reinterpret_cast<unsigned char*>(bytes.data()), dynamic_bytes());
  }
  return memory;
}

View dynamic_view(int64_t offset, int64_t count, int64_t element, int64_t alignment, Place declared) {
  Memory& memory = dynamic_memory();
  if (offset < 0 || count < 0 || offset % alignment != 0) {
    fail("dynamic shared memory: " + std::to_string(count) + " elements at offset " + std::to_string(offset) +
         ", which must be a multiple of " + std::to_string(alignment) + ", declared at " +
         describe(declared));
  }
  if (offset + count * element > memory.size) {
    fail("out of bounds: " + name_of(declared) + " needs " + std::to_string(offset + count * element) +
         " bytes of dynamic shared memory, but the launch has " + std::to_string(memory.size) +
         "; declared at " + describe(declared));
  }
  memory.renew();
  memory.refine(granule_of(element, alignment));
  return {&memory, offset, count, element, declared};
}

}  // namespace ltrp::emulation
