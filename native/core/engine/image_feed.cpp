#include "core/engine/image_feed.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace ltrp {

ImageFeed::ImageFeed(Queue& queue, const at::Tensor& images, int64_t at_a_time)
    : queue_(queue), images_(images), at_a_time_(at_a_time) {}

at::Tensor ImageFeed::next() {
  prefetch();
  TORCH_CHECK(ahead_, "there are no images left");
  const at::Tensor part = queue_.arrived(*ahead_);
  ahead_.reset();
  return part;
}

void ImageFeed::prefetch() {
  if (ahead_ || begin_ >= images_.size(0)) return;
  const at::Tensor part = images_.slice(0, begin_, std::min(begin_ + at_a_time_, images_.size(0)));
  begin_ += part.size(0);
  ahead_ = images_.is_cpu() ? queue_.upload(part) : Queue::Upload{part, nullptr};
}

}  // namespace ltrp
