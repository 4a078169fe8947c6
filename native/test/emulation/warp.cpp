// Shuffles, votes, reductions and __syncwarp: lanes meet, the last one computes what each of them gets.
#include <algorithm>
#include <bit>
#include <limits>

#include "test/emulation/state.h"

namespace ltrp::emulation {
namespace {

// Which lane this lane's shuffle reads; its own where the distance leads out of its segment (as the PTX
// manual defines shfl.sync's pval).
unsigned source_lane(const Thread& thread, unsigned lane) {
  const unsigned width = static_cast<unsigned>(thread.width);
  const unsigned begin = lane & ~(width - 1);
  switch (thread.operation) {
    case WarpOperation::kShuffle:
      return begin | (thread.operand & (width - 1));
    case WarpOperation::kShuffleUp:
      return thread.operand <= lane - begin ? lane - thread.operand : lane;
    case WarpOperation::kShuffleDown:
      return thread.operand < begin + width - lane ? lane + thread.operand : lane;
    default: {
      const unsigned source = lane ^ thread.operand;
      return source < begin + width ? source : lane;
    }
  }
}

bool is_shuffle(WarpOperation operation) {
  return operation >= WarpOperation::kShuffle && operation <= WarpOperation::kShuffleXor;
}

// Gives every lane of `lanes` its result; all of them wait for the same.
void complete(unsigned lanes) {
  Machine& m = machine();
  const unsigned begin = warp_begin();
  const WarpOperation operation = m.current->operation;
  const auto lane_of = [&](unsigned lane) -> Thread& { return *m.pool[begin + lane]; };
  const auto for_lanes = [&](auto&& body) {
    for (unsigned rest = lanes; rest != 0; rest &= rest - 1)
      body(static_cast<unsigned>(std::countr_zero(rest)));
  };
  if (is_shuffle(operation)) {
    for_lanes([&](unsigned lane) {
      Thread& thread = lane_of(lane);
      const unsigned source = source_lane(thread, lane);
      if (source >= kWarp || (lanes >> source & 1u) == 0) {
        fail(thread_name(begin + lane) + " reads lane " + std::to_string(source) + " by the " +
             name_of(operation) + " of " + describe(thread.place) + ", but " +
             (source >= warp_lanes()
                  ? "the block has only " + std::to_string(warp_lanes()) + " threads in that warp"
                  : "that lane is not in the mask " + hex(thread.mask)));
      }
      thread.result = lane_of(source).value;
    });
    return;
  }
  if (operation == WarpOperation::kSync) {
    uint32_t joined[kWarp] = {};
    for_lanes([&](unsigned lane) {
      for (unsigned l = 0; l < kWarp; ++l) joined[l] = std::max(joined[l], lane_of(lane).known[l]);
    });
    for_lanes([&](unsigned lane) {
      std::copy_n(joined, kWarp, lane_of(lane).known);
      ++lane_of(lane).known[lane];
    });
    return;
  }
  unsigned votes = 0;
  unsigned sum = 0;
  unsigned least = ~0u, most = 0;
  int least_signed = std::numeric_limits<int>::max(), most_signed = std::numeric_limits<int>::min();
  for_lanes([&](unsigned lane) {
    const unsigned value = static_cast<unsigned>(lane_of(lane).value);
    votes |= static_cast<unsigned>(value != 0) << lane;
    sum += value;
    least = std::min(least, value);
    most = std::max(most, value);
    least_signed = std::min(least_signed, static_cast<int>(value));
    most_signed = std::max(most_signed, static_cast<int>(value));
  });
  unsigned result = 0;
  switch (operation) {
    case WarpOperation::kBallot:
      result = votes;
      break;
    case WarpOperation::kAny:
      result = votes != 0;
      break;
    case WarpOperation::kAll:
      result = votes == lanes;
      break;
    case WarpOperation::kAdd:
      result = sum;
      break;
    case WarpOperation::kMin:
      result = least;
      break;
    case WarpOperation::kMax:
      result = most;
      break;
    case WarpOperation::kMinSigned:
      result = static_cast<unsigned>(least_signed);
      break;
    default:
      result = static_cast<unsigned>(most_signed);
      break;
  }
  for_lanes([&](unsigned lane) { lane_of(lane).result = result; });
}

}  // namespace

uint64_t warp_collective(WarpOperation operation, unsigned mask, uint64_t value, unsigned operand, int width,
                         Place place) {
  Machine& m = machine();
  if (m.current == nullptr)
    fail(std::string(name_of(operation)) + " outside of a kernel, at " + describe(place));
  Thread& self = *m.current;
  const unsigned begin = warp_begin();
  const unsigned own = m.current_index - begin;
  const auto what = [&] {
    return " in the mask " + hex(mask) + " of the " + name_of(operation) + " of " + describe(place);
  };
  if ((mask >> own & 1u) == 0) {
    fail("wrong mask: " + this_thread() + " is lane " + std::to_string(own) + ", which is not" + what() +
         " that it calls");
  }
  if (width < 1 || width > 32 || !std::has_single_bit(static_cast<unsigned>(width))) {
    fail(std::string(name_of(operation)) + " of " + describe(place) + ": width " + std::to_string(width) +
         " is not a power of two up to 32");
  }
  self.operation = operation;
  self.mask = mask;
  self.value = value;
  self.operand = operand;
  self.width = width;
  self.place = place;
  // Lanes that an incomplete warp does not have are named by the usual full mask; nobody waits for them.
  const unsigned lanes = warp_lanes() == kWarp ? mask : mask & ((1u << warp_lanes()) - 1);
  Warp& warp = own_warp();
  if ((lanes & warp.ended) != 0) {
    const unsigned lane = static_cast<unsigned>(std::countr_zero(lanes & warp.ended));
    fail("inactive lane: " + this_thread() + " names lane " + std::to_string(lane) + what() + ", but " +
         waiting(begin + lane));
  }
  self.state = State::kAtWarp;
  auto meeting = std::find_if(warp.meetings.begin(), warp.meetings.end(),
                              [mask](const Meeting& other) { return other.mask == mask; });
  if (meeting == warp.meetings.end()) {
    meeting = warp.meetings.insert(meeting, {mask, 0});
  } else {
    const unsigned first = begin + static_cast<unsigned>(std::countr_zero(meeting->arrived));
    if (m.pool[first]->operation != operation || !same_place(m.pool[first]->place, place)) {
      fail("warp divergence: " + waiting(m.current_index) + " while " + waiting(first));
    }
  }
  meeting->arrived |= 1u << own;
  if (meeting->arrived == lanes) {
    warp.meetings.erase(meeting);
    complete(lanes);
    for (unsigned rest = lanes; rest != 0; rest &= rest - 1) {
      make_ready(begin + static_cast<unsigned>(std::countr_zero(rest)));
    }
  }
  wait();
  return self.result;
}

}  // namespace ltrp::emulation
