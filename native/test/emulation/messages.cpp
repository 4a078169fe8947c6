// How the emulation names threads, calls and source lines.
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <string_view>

#include "test/emulation/state.h"

namespace ltrp::emulation {

std::string triple(uint3 v) {
  return "(" + std::to_string(v.x) + "," + std::to_string(v.y) + "," + std::to_string(v.z) + ")";
}

std::string hex(unsigned mask) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08x", mask);
  return text;
}

bool same_place(const Place& a, const Place& b) {
  return a.line() == b.line() && a.column() == b.column() &&
         (a.file_name() == b.file_name() || std::string_view(a.file_name()) == b.file_name());
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

std::string waiting(unsigned t) {
  const Thread& thread = *machine().pool[t];
  if (thread.state == State::kEnded) return thread_name(t) + " has ended";
  if (thread.state == State::kAtBarrier) {
    return thread_name(t) + " waits at the " + name_of(thread.barrier) + " of " + describe(thread.place);
  }
  return thread_name(t) + " waits at the " + name_of(thread.operation) + " (mask " + hex(thread.mask) +
         ") of " + describe(thread.place);
}

void fail(const std::string& message) {
  const Machine& m = machine();
  throw Failure(m.current == nullptr ? message
                                     : message + " (block " + triple(blockIdx) + ", launched at " +
                                           describe(m.launched) + ")");
}

std::string source_line(Place place) {
  std::string path = place.file_name();
  // A compiler cache makes it relative to the build folder.
  if (const size_t at = path.find("native/"); !path.starts_with('/') && at != std::string::npos)
    path = LTRP_SOURCE_DIR "/" + path.substr(at);
  std::ifstream file{path};
  std::string line;
  for (uint32_t i = 0; i < place.line(); ++i) {
    if (!std::getline(file, line)) return "";
  }
  return line;
}

std::string describe(Place place) {
  const std::string_view path = place.file_name();
  std::string text(path.substr(path.rfind('/') + 1));
  text += ":" + std::to_string(place.line());
  const std::string line = source_line(place);
  const size_t begin = line.find_first_not_of(' ');
  if (begin != std::string::npos) text += " `" + line.substr(begin) + "`";
  return text;
}

std::string thread_name(unsigned thread) { return "thread " + triple(machine().pool[thread]->index); }

std::string this_thread() { return thread_name(machine().current_index); }

}  // namespace ltrp::emulation
