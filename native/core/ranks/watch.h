// Heartbeats of the ranks, and their end when one of them fails.
//
// Each rank writes to the store, through a client of its own, where and at which step it is, and reads what
// the others wrote. Nothing on the way out waits for another rank: no collective, no destructor.
#pragma once

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/ranks/store.h"

namespace ltrp {

// What a rank says of itself.
struct Beat {
  int64_t count = 0;
  int64_t step = 0;
  int64_t pid = 0;
  bool left = false;
  std::string host;
  std::string place;    // the same for processes that share a network: of the kernel and the namespace
  std::string address;  // this rank's, on the way to the store
};

// Says to torchrun why this process ends; nothing where `path` is empty.
void write_error_file(const std::string& path, const std::string& message);

class Watch {
 public:
  Watch(const RanksOptions& options, Store store, const std::string& start, const std::string& address);
  ~Watch();

  // The first beat of every rank. The process ends, naming those that did not come until `deadline`.
  std::vector<Beat> everyone(Clock::time_point deadline, const RunContext& context);
  void at_step(int64_t step) { step_.store(step); }
  // A collective failed: parks this thread until the reason is known and the process ends.
  [[noreturn]] void lost(const std::string& what);
  void leave();
  [[noreturn]] void end(const std::string& message, int exit_code);

 private:
  struct Other {
    Beat beat;
    bool known = false;
    double silent = 0;  // seconds
  };

  void beat();
  void write_beat(bool left);
  void read_beats(double elapsed);
  void judge();
  void watch_store();
  std::string described(size_t rank) const;
  [[noreturn]] void finish(const std::string& message, int exit_code, bool own_reason);

  const RanksOptions options_;
  const Store store_;  // of the thread that beats alone
  const std::string start_;
  Beat own_;
  double interval_ = 1;  // seconds

  std::atomic<int64_t> step_{0};
  std::atomic<int64_t> turns_{0};  // of the thread that beats
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Other> others_;  // under mutex_; by rank
  bool leaving_ = false, stopped_ = false;
  std::string gave_up_;     // under mutex_; who did not come
  std::string failed_;      // under mutex_; the collective's words
  double failed_for_ = 0;   // seconds
  std::string own_reason_;  // under mutex_
  int exit_code_ = 1;
  std::thread beating_, watching_;
};

}  // namespace ltrp
