// The emulation's queue does late what a GPU may do late, and leaves nothing behind that a GPU would not: an
// upload holds nonsense until it has arrived, a recording's inputs and outputs are nonsense between its
// replays.
#pragma once

#if defined(LTRP_EMULATE_CUDA)

#include <string>

namespace ltrp::test {

struct EmulatedQueue {
  int recordings = 0;
  int replays = 0;
  int uploads = 0;
  int64_t bytes = 1000;        // of every recording
  bool out_of_memory = false;  // while recording
  std::string refusal;         // of every recording; empty: none
};

// Counts and settings of all emulated queues. Reset by assigning {}.
EmulatedQueue& emulated_queue();

}  // namespace ltrp::test

#endif
