// One call's cancel flag and progress: the `Job` of lib/native/binding.ts.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "binding/node_api.h"

namespace ltrp::binding {

// Shared by the JavaScript object, the queue and the computation; knows no JavaScript.
class JobState {
 public:
  struct Progress {
    int64_t done = 0;
    int64_t total = 0;
  };

  std::atomic<bool>& cancel_flag() { return cancelled_; }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

  // Compute thread: replaces an event that was not taken yet.
  void set_progress(int64_t done, int64_t total) {
    std::lock_guard lock(mutex_);
    newest_ = {done, total};
  }
  // JavaScript thread.
  std::optional<Progress> take_progress() {
    std::lock_guard lock(mutex_);
    std::optional<Progress> taken = newest_;
    newest_.reset();
    return taken;
  }

 private:
  std::atomic<bool> cancelled_{false};
  std::mutex mutex_;
  std::optional<Progress> newest_;
};

class Job : public Napi::ObjectWrap<Job> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit Job(const Napi::CallbackInfo& info);

  // The Job behind a JavaScript value. Error(kInvalidArgument) for anything else.
  static Job& from(const Napi::Value& value);

  // Marks the job as used. Error(kInvalidArgument) the second time.
  void begin();
  const std::shared_ptr<JobState>& state() const { return state_; }
  // Empty without a callback. Only once: the running call owns it from then on.
  Napi::FunctionReference take_on_progress() { return std::move(on_progress_); }

 private:
  void cancel(const Napi::CallbackInfo& info);

  std::shared_ptr<JobState> state_ = std::make_shared<JobState>();
  Napi::FunctionReference on_progress_;
  bool used_ = false;
};

}  // namespace ltrp::binding
