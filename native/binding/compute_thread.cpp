#include "binding/compute_thread.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <chrono>
#include <utility>

#include "kernels/cpu/tensor_memory.h"
#include "kernels/interrupt.h"

#if defined(__linux__)
#include <pthread.h>
#endif

namespace ltrp::binding {

namespace {

// Without work for so long, memory that was kept for it goes back to the system.
constexpr std::chrono::seconds kIdle{1};

}  // namespace

int ComputeThread::threads() const { return threads_ > 0 ? threads_ : at::get_num_threads(); }

void ComputeThread::start() {
  napi_value name = Napi::String::New(env_, "ltrp compute thread");
  napi_status status = napi_create_threadsafe_function(
      env_, nullptr, nullptr, name, /*max_queue_size=*/0, /*initial_thread_count=*/1, nullptr, nullptr, this,
      [](napi_env env, napi_value, void* context, void*) {
        // No environment: it is going away and what this wake-up announced goes with it.
        if (env != nullptr) static_cast<ComputeThread*>(context)->drain();
      },
      &wake_function_);
  if (status != napi_ok) throw Error(codes::kInternal, "Node refused a thread-safe function.");
  napi_unref_threadsafe_function(env_, wake_function_);
  // Hooks run last in, first out: registered after the thread-safe function, this one joins the thread before
  // Node closes that function under it. process.exit() skips hooks; there lib calls shutdown() from its
  // 'exit' listener.
  env_.AddCleanupHook([this] { shutdown(); });
  thread_ = std::thread([this] { run(); });
}

Napi::Promise ComputeThread::submit(Job& job, Work work, Napi::ObjectReference kept) {
  if (stopped_) throw Error(codes::kCancelled, "The process is ending; no more work is accepted.");
  job.begin();
  if (!thread_.joinable()) start();

  auto task = std::make_shared<Task>(job.state(), Napi::Promise::Deferred::New(env_));
  task->on_progress = job.take_on_progress();
  task->wants_progress = !task->on_progress.IsEmpty();
  task->kept = std::move(kept);
  task->threads = threads_;
  task->work = std::move(work);
  Napi::Promise promise = task->promise.Promise();

  if (live_.empty()) napi_ref_threadsafe_function(env_, wake_function_);
  live_.push_back(task);
  {
    std::lock_guard lock(mutex_);
    queue_.push_back(task.get());
  }
  queued_.notify_one();
  return promise;
}

void ComputeThread::cancel(JobState& job) {
  job.cancel_flag().store(true, std::memory_order_relaxed);
  bool removed = false;
  {
    std::lock_guard lock(mutex_);
    auto found =
        std::find_if(queue_.begin(), queue_.end(), [&](Task* task) { return task->job.get() == &job; });
    if (found != queue_.end()) {
      Task* task = *found;
      queue_.erase(found);
      task->work = nullptr;
      task->failure = Failure{codes::kCancelled, "The operation was cancelled."};
      done_.push_back(task);
      removed = true;
    }
  }
  if (removed) wake();
}

void ComputeThread::shutdown() {
  if (stopped_) return;
  stopped_ = true;
  for (const auto& task : live_) task->job->cancel_flag().store(true, std::memory_order_relaxed);
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
    queue_.clear();
  }
  queued_.notify_all();
  if (thread_.joinable()) thread_.join();
  if (wake_function_ != nullptr) napi_release_threadsafe_function(wake_function_, napi_tsfn_abort);
  done_.clear();
  live_.clear();
}

void ComputeThread::run() {
#if defined(__linux__)
  pthread_setname_np(pthread_self(), "ltrp-compute");
#endif
  for (;;) {
    Task* task = nullptr;
    {
      std::unique_lock lock(mutex_);
      const auto called = [this] { return stopping_ || !queue_.empty(); };
      // By the system's clock, as glibc before 2.30 waits by no other.
      if (!queued_.wait_until(lock, std::chrono::system_clock::now() + kIdle, called)) {
        lock.unlock();
        cpu::release_tensor_memory();
        lock.lock();
        queued_.wait(lock, called);
      }
      if (stopping_) return;
      task = queue_.front();
      queue_.pop_front();
    }
    execute(*task);
    {
      std::lock_guard lock(mutex_);
      done_.push_back(task);
    }
    wake();
  }
}

void ComputeThread::execute(Task& task) {
  RunContext::ProgressFunction on_progress;
  if (task.wants_progress) {
    on_progress = [this, &task](int64_t done, int64_t total) {
      task.job->set_progress(done, total);
      wake();
    };
  }
  RunContext context(&task.job->cancel_flag(), std::move(on_progress));
  try {
    const InterruptScope scope{Interrupt(&task.job->cancel_flag())};
    context.check();
    if (task.threads > 0 && task.threads != at::get_num_threads()) at::set_num_threads(task.threads);
    task.make_result = task.work(context);
  } catch (...) {
    task.failure = describe(std::current_exception());
  }
  task.work = nullptr;
}

// One call is enough until drain() starts: it looks at everything.
void ComputeThread::wake() {
  if (!wake_pending_.exchange(true))
    napi_call_threadsafe_function(wake_function_, nullptr, napi_tsfn_nonblocking);
}

void ComputeThread::drain() {
  wake_pending_.store(false);
  std::vector<Task*> finished;
  {
    std::lock_guard lock(mutex_);
    finished.swap(done_);
  }
  // Callbacks may submit, cancel or even shut down, so nothing here refers to live_ while JavaScript runs.
  const std::vector<std::shared_ptr<Task>> tasks(live_.begin(), live_.end());
  for (const auto& task : tasks) {
    if (stopped_) return;
    Napi::HandleScope scope(env_);
    report_progress(*task);
    if (stopped_) return;
    if (std::find(finished.begin(), finished.end(), task.get()) == finished.end()) continue;
    settle(*task);
    live_.remove(task);
    if (live_.empty()) napi_unref_threadsafe_function(env_, wake_function_);
  }
}

void ComputeThread::report_progress(Task& task) {
  if (!task.wants_progress) return;
  std::optional<JobState::Progress> event = task.job->take_progress();
  if (!event || task.job->cancelled()) return;
  // Plain Node-API: in a worker that is being terminated calls fail without an exception, which is nobody's
  // error.
  napi_value callback = task.on_progress.Value();
  napi_value receiver = env_.Undefined();
  napi_value arguments[] = {Napi::Number::New(env_, static_cast<double>(event->done)),
                            Napi::Number::New(env_, static_cast<double>(event->total))};
  if (napi_call_function(env_, receiver, callback, 2, arguments, nullptr) == napi_ok) return;
  bool thrown = false;
  if (napi_is_exception_pending(env_, &thrown) != napi_ok || !thrown) return;
  napi_value exception = nullptr;
  if (napi_get_and_clear_last_exception(env_, &exception) == napi_ok) napi_fatal_exception(env_, exception);
}

void ComputeThread::settle(Task& task) {
  try {
    if (task.failure) {
      task.promise.Reject(to_error(env_, *task.failure).Value());
      return;
    }
    Napi::Value result;
    try {
      const Napi::Object kept = task.kept.Value();
      result = task.make_result ? task.make_result(env_, kept) : Napi::Value(kept);
    } catch (const Napi::Error& error) {
      task.promise.Reject(error.Value());
      return;
    } catch (...) {
      task.promise.Reject(to_error(env_, describe(std::current_exception())).Value());
      return;
    }
    task.promise.Resolve(result);
  } catch (const Napi::Error&) {
    // The environment is being terminated: there is nobody to tell.
  }
}

}  // namespace ltrp::binding
