// What a long computation needs from its caller: a way to be stopped and a way to say how far it is.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>

#include "core/error.h"

namespace ltrp {

class RunContext {
 public:
  // done and total count units that the called function documents (variants, steps, tensors).
  using ProgressFunction = std::function<void(int64_t done, int64_t total)>;

  RunContext() = default;
  RunContext(const std::atomic<bool>* cancelled, ProgressFunction on_progress)
      : cancelled_(cancelled), on_progress_(std::move(on_progress)) {}

  bool cancelled() const { return cancelled_ != nullptr && cancelled_->load(std::memory_order_relaxed); }
  // Throws Error(kCancelled). Long loops call it between images, variants and steps.
  void check() const {
    if (cancelled()) throw Error(codes::kCancelled, "The operation was cancelled.");
  }
  // Must be cheap and must not block: it is called from the compute thread.
  void progress(int64_t done, int64_t total) const {
    if (on_progress_) on_progress_(done, total);
  }

  // For a part of a larger job: the same cancel flag, progress shifted by `done_before` and counted against
  // `total`.
  RunContext offset(int64_t done_before, int64_t total) const {
    if (!on_progress_) return {cancelled_, nullptr};
    return {cancelled_, [function = on_progress_, done_before, total](int64_t done, int64_t) {
              function(done_before + done, total);
            }};
  }

  RunContext without_progress() const { return {cancelled_, nullptr}; }

 private:
  const std::atomic<bool>* cancelled_ = nullptr;
  ProgressFunction on_progress_;
};

}  // namespace ltrp
