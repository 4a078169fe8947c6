// One long-lived compute thread per Node environment (main thread or worker), with a first-in-first-out
// queue.
//
// Not libuv's pool: long computations there hold up files and sharp, and LibTorch keeps intra-op threads for
// every thread that calls it. Not one thread per call either, for the same reason.
//
//   JavaScript thread                                   compute thread
//   submit() ── queue_ ────────────────────────────►    Work(RunContext)
//   drain()  ◄─ one thread-safe function, coalesced ──  done_, newest progress
//
// The thread-safe function is referenced only while calls wait, so an idle thread never keeps the process
// alive.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "binding/failure.h"
#include "binding/job.h"
#include "binding/node_api.h"
#include "core/run_context.h"

namespace ltrp::binding {

// Makes the JavaScript value of a finished computation, on the JavaScript thread, from what it captured and
// the kept object of submit(). Empty: the promise's value is that object.
using MakeResult = std::function<Napi::Value(Napi::Env, Napi::Object kept)>;
// The computation, on the compute thread. It owns copies of its inputs, holds no JavaScript handle, and is
// destroyed on the compute thread as soon as it has run.
using Work = std::function<MakeResult(const RunContext&)>;

class ComputeThread {
 public:
  explicit ComputeThread(Napi::Env env) : env_(env) {}
  ~ComputeThread() { shutdown(); }
  ComputeThread(const ComputeThread&) = delete;
  ComputeThread& operator=(const ComputeThread&) = delete;

  // All of these on the JavaScript thread.

  // Queues `work` and returns its promise. `kept` stays alive until the promise is settled (memory that
  // `work` writes to). Throws Error(kCancelled) after shutdown().
  Napi::Promise submit(Job& job, Work work, Napi::ObjectReference kept = {});
  // Sets the flag; a call that is still queued is rejected without waiting for those before it.
  void cancel(JobState& job);
  // LibTorch's intra-op threads, for work submitted from now on.
  void set_threads(int threads) { threads_ = threads; }
  int threads() const;
  // Cancels everything, joins. Promises that are not settled stay so: the environment is going away.
  // Idempotent.
  void shutdown();

 private:
  struct Task {
    Task(std::shared_ptr<JobState> state, Napi::Promise::Deferred deferred)
        : job(std::move(state)), promise(deferred) {}

    std::shared_ptr<JobState> job;
    Napi::Promise::Deferred promise;
    Napi::FunctionReference on_progress;
    Napi::ObjectReference kept;
    bool wants_progress = false;
    int threads = 0;
    Work work;
    MakeResult make_result;
    std::optional<Failure> failure;
  };

  void start();
  void run();
  void execute(Task& task);
  void wake();
  void drain();
  void report_progress(Task& task);
  void settle(Task& task);

  Napi::Env env_;
  napi_threadsafe_function wake_function_ = nullptr;
  std::thread thread_;
  int threads_ = 0;       // 0: LibTorch's default
  bool stopped_ = false;  // JavaScript thread's view
  // Owns every task that is not settled; JavaScript thread only, because tasks hold JavaScript references.
  std::list<std::shared_ptr<Task>> live_;

  std::atomic<bool> wake_pending_{false};
  std::mutex mutex_;
  std::condition_variable queued_;
  std::deque<Task*> queue_;  // under mutex_
  std::vector<Task*> done_;  // under mutex_
  bool stopping_ = false;    // under mutex_
};

}  // namespace ltrp::binding
