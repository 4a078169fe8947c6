#include "kernels/cuda/queue.h"

#include <ATen/ATen.h>
#include <ATen/cuda/CUDAGraph.h>
#include <c10/core/Event.h>
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAException.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <optional>
#include <unordered_map>

#include "kernels/interrupt.h"

namespace ltrp::cuda {

namespace {

using c10::cuda::CUDAStream;

// A thread keeps its streams: LibTorch's allocator reuses memory within a stream only, and calls follow one
// another on a thread. Never the legacy default stream, which every other one waits for and which nothing can
// be recorded on.
struct Streams {
  CUDAStream work;
  CUDAStream copies;
};

Streams& streams_of(c10::DeviceIndex device) {
  thread_local std::unordered_map<c10::DeviceIndex, Streams> all;
  const auto found = all.find(device);
  if (found != all.end()) return found->second;
  const CUDAStream work = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device);
  CUDAStream copies = work;
  while (copies == work) copies = c10::cuda::getStreamFromPool(/*isHighPriority=*/false, device);
  return all.emplace(device, Streams{work, copies}).first->second;
}

int64_t reserved_bytes(c10::DeviceIndex device) {
  const auto all = static_cast<size_t>(c10::CachingAllocator::StatType::AGGREGATE);
  return c10::cuda::CUDACachingAllocator::getDeviceStats(device).reserved_bytes[all].current;
}

class Graph final : public Recording {
 public:
  Graph(std::unique_ptr<at::cuda::CUDAGraph> graph, int64_t bytes)
      : graph_(std::move(graph)), bytes_(bytes) {}
  void replay() override { graph_->replay(); }  // on the current stream
  int64_t bytes() const override { return bytes_; }

 private:
  std::unique_ptr<at::cuda::CUDAGraph> graph_;
  int64_t bytes_;
};

class StreamQueue final : public Queue {
 public:
  explicit StreamQueue(c10::Device device)
      : device_(device.index()), streams_(streams_of(device_)), guard_(streams_.work) {}

  ~StreamQueue() override {
    // An error here has been met by somebody who could report it, or nobody needs the results.
    try {
      streams_.copies.synchronize();
      streams_.work.synchronize();
    } catch (...) {
    }
  }

  Upload upload(const at::Tensor& host) override {
    // Pinned memory goes back to LibTorch's cache when the copy is done.
    const at::Tensor pinned = at::empty(host.sizes(), host.options().pinned_memory(true));
    pinned.copy_(host);
    auto copied = std::make_shared<c10::Event>(c10::DeviceType::CUDA);
    at::Tensor there;
    {
      const c10::cuda::CUDAStreamGuard beside(streams_.copies);
      there = at::empty(host.sizes(), host.options().device(c10::Device(c10::kCUDA, device_)));
      there.copy_(pinned, /*non_blocking=*/true);
      copied->record(streams_.copies.unwrap());
    }
    // Its memory is the copies' stream's; whoever frees it may still have work queued that reads it.
    there.record_stream(streams_.work.unwrap());
    return {there, copied};
  }

  at::Tensor arrived(const Upload& upload) override {
    if (upload.copy) static_cast<c10::Event*>(upload.copy.get())->block(streams_.work.unwrap());
    return upload.tensor;
  }

  at::Tensor download(const at::Tensor& x) override {
    if (!x.is_cuda()) return x;
    const at::Tensor pinned = at::empty(x.sizes(), x.options().device(c10::kCPU).pinned_memory(true));
    pinned.copy_(x, /*non_blocking=*/true);
    streams_.work.synchronize();
    return pinned.clone();  // pinned memory is scarce, and results may live long
  }

  void keep_pace() override {
    if (before_) before_->synchronize();
    before_.emplace(c10::DeviceType::CUDA);
    before_->record(streams_.work.unwrap());
  }

  bool records() const override { return true; }

  std::unique_ptr<Recording> record(const DeviceWork& work, const std::vector<at::Tensor>& inputs,
                                    std::vector<at::Tensor>& outputs, std::string& problem) override {
    auto graph = std::make_unique<at::cuda::CUDAGraph>();
    const int64_t before = reserved_bytes(device_);
    bool recording = false;
    try {
      streams_.work.synchronize();
      // Other threads may allocate and wait meanwhile.
      graph->capture_begin({0, 0}, cudaStreamCaptureModeThreadLocal);
      recording = true;
      outputs = work(inputs);
      recording = false;
      graph->capture_end();
      return std::make_unique<Graph>(std::move(graph), reserved_bytes(device_) - before);
    } catch (const c10::OutOfMemoryError&) {
      abandon(*graph, recording, outputs);
      throw;
    } catch (const Interrupted&) {
      abandon(*graph, recording, outputs);
      throw;
    } catch (const c10::Error& error) {
      problem = error.what_without_backtrace();
    } catch (const std::exception& error) {
      problem = error.what();
    }
    abandon(*graph, recording, outputs);
    return nullptr;
  }

 private:
  static void abandon(at::cuda::CUDAGraph& graph, bool recording, std::vector<at::Tensor>& outputs) {
    outputs.clear();
    try {
      if (recording) graph.capture_end();
    } catch (...) {
    }
    // A recording that failed leaves its error behind, which must not be taken for a later launch's.
    static_cast<void>(cudaGetLastError());
  }

  c10::DeviceIndex device_;
  Streams streams_;
  c10::cuda::CUDAStreamGuard guard_;
  std::optional<c10::Event> before_;
};

}  // namespace

std::unique_ptr<Queue> open_queue(c10::Device device) { return std::make_unique<StreamQueue>(device); }

}  // namespace ltrp::cuda
