// A batch of images, some at a time, on the device by the time they are needed.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "kernels/queue.h"

namespace ltrp {

// Images [n, ...] in order. Those on the host are copied beside the queue's work; on a CPU nothing is copied.
class ImageFeed {
 public:
  // The queue must outlive it.
  ImageFeed(Queue& queue, const at::Tensor& images, int64_t at_a_time);

  // The next ones, at_a_time or what is left: [m, ...].
  at::Tensor next();
  // Begins to copy those that next() will return; to be called when work has been queued that the copy can
  // hide behind.
  void prefetch();

 private:
  Queue& queue_;
  at::Tensor images_;
  int64_t at_a_time_;
  int64_t begin_ = 0;
  std::optional<Queue::Upload> ahead_;
};

}  // namespace ltrp
