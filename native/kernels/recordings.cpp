#include "kernels/recordings.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <numeric>

#include "kernels/interrupt.h"

namespace ltrp {

namespace {

// Keys that were seen once; more of them than recordings, so that a batch's odd last piece does not push out
// what comes back.
constexpr size_t kMostKeys = 4 * Recordings::kMost;

// Recording costs as much as the work itself: of more kinds of work in turn than are kept, none would be
// replayed.
constexpr int kMostTimes = 3;

std::string key_of(const std::string& name, const std::vector<at::Tensor>& inputs) {
  std::string key = name;
  for (const at::Tensor& input : inputs) {
    key += '|';
    if (!input.defined()) continue;
    key += std::to_string(static_cast<int>(input.scalar_type()));
    for (const int64_t size : input.sizes()) key += ',' + std::to_string(size);
  }
  return key;
}

int64_t bytes_of(const std::vector<at::Tensor>& tensors) {
  return std::accumulate(tensors.begin(), tensors.end(), int64_t{0}, [](int64_t sum, const at::Tensor& x) {
    return sum + (x.defined() ? static_cast<int64_t>(x.nbytes()) : 0);
  });
}

}  // namespace

std::vector<at::Tensor> Recordings::run(Queue& queue, const std::string& name,
                                        const std::vector<at::Tensor>& inputs, int64_t most_bytes,
                                        const DeviceWork& work) {
  if (!queue.records()) return work(inputs);
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock() || refused_) return work(inputs);
  // The static inputs are overwritten by whoever calls next, inside inference mode or not.
  const c10::InferenceMode inference;
  const std::string key = key_of(name, inputs);
  const auto found =
      std::find_if(entries_.begin(), entries_.end(), [&](const Entry& entry) { return entry.key == key; });
  if (found == entries_.end()) {
    entries_.emplace_front().key = key;
    if (entries_.size() > kMostKeys) entries_.pop_back();
    return work(inputs);
  }
  entries_.splice(entries_.begin(), entries_, found);
  Entry& entry = entries_.front();
  if (entry.recording != nullptr) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      if (inputs[i].defined()) entry.inputs[i].copy_(inputs[i]);
    }
    entry.recording->replay();
    ++replayed_;
    return entry.outputs;
  }
  // On this very queue once more: what libraries prepare at their first call must not be part of a recording.
  const std::vector<at::Tensor> result = work(inputs);
  if (!entry.too_large && entry.times < kMostTimes) record(queue, entry, inputs, most_bytes, work);
  return result;
}

void Recordings::record(Queue& queue, Entry& entry, const std::vector<at::Tensor>& inputs, int64_t most_bytes,
                        const DeviceWork& work) {
  std::string problem;
  try {
    for (const at::Tensor& input : inputs) {
      entry.inputs.push_back(input.defined() ? input.clone(at::MemoryFormat::Contiguous) : at::Tensor());
    }
    entry.recording = queue.record(work, entry.inputs, entry.outputs, problem);
  } catch (const c10::OutOfMemoryError&) {
    // There is room for the work, not for keeping it as well.
    entry.too_large = true;
  } catch (const Interrupted&) {
    // It says nothing about recording.
    entry.inputs.clear();
    entry.outputs.clear();
    throw;
  }
  if (entry.recording == nullptr) {
    entry.inputs.clear();
    entry.outputs.clear();
    if (!entry.too_large) {
      refused_ = true;
      note_recording_problem(problem);
    }
    return;
  }
  ++entry.times;
  entry.work = work;
  entry.bytes = entry.recording->bytes() + bytes_of(entry.inputs);
  make_room(most_bytes);
}

void Recordings::make_room(int64_t most_bytes) {
  int64_t bytes = 0;
  size_t count = 0;
  for (Entry& entry : entries_) {
    if (entry.recording == nullptr) continue;
    if (++count <= kMost && bytes + entry.bytes <= most_bytes) {
      bytes += entry.bytes;
      continue;
    }
    // The newest by itself is too much: it would be so the next time.
    const bool alone = entry.bytes > most_bytes;
    entry.too_large = alone;
    entry.bytes = 0;
    entry.recording.reset();
    entry.work = nullptr;
    entry.inputs.clear();
    entry.outputs.clear();
  }
}

int64_t Recordings::bytes() const {
  const std::lock_guard lock(mutex_);
  return std::accumulate(entries_.begin(), entries_.end(), int64_t{0},
                         [](int64_t sum, const Entry& entry) { return sum + entry.bytes; });
}

int64_t Recordings::replayed() const {
  const std::lock_guard lock(mutex_);
  return replayed_;
}

void Recordings::clear() {
  const std::lock_guard lock(mutex_);
  entries_.clear();
}

std::string recording_check(c10::Device device) {
  try {
    const std::unique_ptr<Queue> queue = open_queue(device);
    if (!queue->records()) return {};
    Recordings recordings;
    for (int call = 0; call < 3; ++call) {
      const at::Tensor x = at::full({4}, call, at::TensorOptions(device).dtype(at::kFloat));
      const at::Tensor sum = queue->download(recordings.run(
          *queue, "check", {x}, int64_t{1} << 30,
          [](const std::vector<at::Tensor>& inputs) { return std::vector<at::Tensor>{inputs[0] + 1}; })[0]);
      if (sum.sum().item<double>() != 4 * (call + 1)) return "a replayed sum was wrong";
    }
    return recordings.replayed() == 1 ? std::string() : recording_problem();
  } catch (const c10::Error& error) {
    return error.what_without_backtrace();
  } catch (const std::exception& error) {
    return error.what();
  }
}

}  // namespace ltrp
