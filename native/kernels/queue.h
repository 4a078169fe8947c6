// What a device does in the background of one call: its queue of work, copies beside it, and work that is
// recorded once and replayed. A CPU has none of this: there every step is done when it returns.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/core/Device.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace ltrp {

// Tensors to tensors, on the device and without waiting for it. It owns what it needs beside its inputs: a
// replay may come long after the call that recorded it.
using DeviceWork = std::function<std::vector<at::Tensor>(const std::vector<at::Tensor>& inputs)>;

// Work as it was recorded: the same steps on the same memory.
class Recording {
 public:
  virtual ~Recording() = default;
  // Reads the inputs and overwrites the outputs that it was recorded with.
  virtual void replay() = 0;
  // Memory that stays taken as long as this lives, without inputs.
  virtual int64_t bytes() const = 0;
};

// While one lives, the operators that its thread calls are queued on a queue of this thread's own. Its end
// waits for all that was queued. Used by one thread; several may live within one another.
class Queue {
 public:
  virtual ~Queue() = default;

  // On its way to the device; to be read after arrived() only.
  struct Upload {
    at::Tensor tensor;
    std::shared_ptr<void> copy;  // the device's
  };
  // Begins to copy `host` beside what is queued; `host` may be changed or freed as soon as this returns. On a
  // CPU: `host` itself.
  virtual Upload upload(const at::Tensor& host) = 0;
  // What is queued from now on comes after the copy.
  virtual at::Tensor arrived(const Upload& upload) = 0;

  // A copy on the host of what the work queued so far makes of `x`. On a CPU: `x` itself.
  virtual at::Tensor download(const at::Tensor& x) = 0;

  // Waits until everything is done that was queued before the previous call: the host is at most one piece of
  // work ahead, so that cancelling and progress mean something.
  virtual void keep_pace() = 0;

  // Whether record() may be tried.
  virtual bool records() const = 0;
  // Records the work, which must have run on this queue before; `outputs` are what replays overwrite. Null
  // where the device refuses, with its words in `problem`.
  virtual std::unique_ptr<Recording> record(const DeviceWork& work, const std::vector<at::Tensor>& inputs,
                                            std::vector<at::Tensor>& outputs, std::string& problem) = 0;
};

// The queue of the calling thread on that device.
std::unique_ptr<Queue> open_queue(c10::Device device);

// Why a device of this process has refused to record, in its own words; empty where none has.
std::string recording_problem();
void note_recording_problem(const std::string& problem);

}  // namespace ltrp
