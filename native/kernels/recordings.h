// Work that comes back with inputs of the same shapes: recorded the second time, replayed from then on.
#pragma once

#include <cstdint>
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "kernels/queue.h"

namespace ltrp {

// A few recordings, the one that was not used for longest dropped first; what is dropped again and again is
// not recorded any more. Threads may share it: who finds it in use runs the work without. Where a device
// refuses to record, it is not asked again.
class Recordings {
 public:
  static constexpr size_t kMost = 8;

  // What work(inputs) returns, by a replay where there is one of the same `key` and the same shapes and types
  // of the inputs; the outputs are good until the next call with that key. All recordings together keep at
  // most `most_bytes`.
  std::vector<at::Tensor> run(Queue& queue, const std::string& key, const std::vector<at::Tensor>& inputs,
                              int64_t most_bytes, const DeviceWork& work);

  int64_t bytes() const;
  int64_t replayed() const;  // times
  // Frees all; nothing may be replaying.
  void clear();

 private:
  struct Entry {
    std::string key;
    bool too_large = false;
    int times = 0;  // recorded
    int64_t bytes = 0;
    DeviceWork work;  // keeps alive what the recorded steps read
    std::vector<at::Tensor> inputs, outputs;
    std::unique_ptr<Recording> recording;
  };
  void record(Queue& queue, Entry& entry, const std::vector<at::Tensor>& inputs, int64_t most_bytes,
              const DeviceWork& work);
  void make_room(int64_t most_bytes);

  mutable std::mutex mutex_;
  std::list<Entry> entries_;  // the newest first
  bool refused_ = false;
  int64_t replayed_ = 0;
};

// Records and replays a sum on that device. Why that failed, in the device's words; empty when it works or
// when the device records nothing.
std::string recording_check(c10::Device device);

}  // namespace ltrp
