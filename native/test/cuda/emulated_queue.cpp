#include "test/cuda/emulated_queue.h"

#if defined(LTRP_EMULATE_CUDA)

#include <ATen/ATen.h>

#include <limits>
#include <utility>
#include <vector>

#include "kernels/cuda/queue.h"

namespace ltrp {

namespace {

// NaN, or ids that no table has.
void spoil(at::Tensor x) {
  if (!x.defined()) return;
  if (at::isFloatingType(x.scalar_type())) {
    x.fill_(std::numeric_limits<double>::quiet_NaN());
  } else {
    x.fill_(x.scalar_type() == at::kByte ? 77 : 0x7ffffff7);
  }
}

struct Pending {
  at::Tensor from, to;
  bool done = false;
};

class EmulatedRecording final : public Recording {
 public:
  EmulatedRecording(DeviceWork work, std::vector<at::Tensor> inputs, std::vector<at::Tensor> outputs)
      : work_(std::move(work)), inputs_(std::move(inputs)), outputs_(std::move(outputs)) {
    spoil_all();
  }
  void replay() override {
    ++test::emulated_queue().replays;
    const std::vector<at::Tensor> fresh = work_(inputs_);
    TORCH_CHECK(fresh.size() == outputs_.size());
    for (size_t i = 0; i < fresh.size(); ++i) outputs_[i].copy_(fresh[i]);
    for (const at::Tensor& input : inputs_) spoil(input);
  }
  int64_t bytes() const override { return test::emulated_queue().bytes; }

 private:
  void spoil_all() {
    for (const auto* list : {&inputs_, &outputs_}) {
      for (const at::Tensor& x : *list) spoil(x);
    }
  }

  DeviceWork work_;
  std::vector<at::Tensor> inputs_, outputs_;
};

class DeferringQueue final : public Queue {
 public:
  Upload upload(const at::Tensor& host) override {
    ++test::emulated_queue().uploads;
    auto pending = std::make_shared<Pending>();
    pending->from = host.clone(at::MemoryFormat::Contiguous);
    pending->to = at::empty_like(pending->from);
    spoil(pending->to);
    return {pending->to, pending};
  }
  at::Tensor arrived(const Upload& upload) override {
    auto* pending = static_cast<Pending*>(upload.copy.get());
    if (!std::exchange(pending->done, true)) {
      pending->to.copy_(pending->from);
      spoil(pending->from);
    }
    return upload.tensor;
  }
  at::Tensor download(const at::Tensor& x) override { return x.clone(); }
  void keep_pace() override {}
  bool records() const override { return true; }
  std::unique_ptr<Recording> record(const DeviceWork& work, const std::vector<at::Tensor>& inputs,
                                    std::vector<at::Tensor>& outputs, std::string& problem) override {
    test::EmulatedQueue& settings = test::emulated_queue();
    TORCH_CHECK_WITH(OutOfMemoryError, !settings.out_of_memory, "planted");
    if (!settings.refusal.empty()) {
      problem = settings.refusal;
      return nullptr;
    }
    ++settings.recordings;
    // Memory of their own: what the work returns may be a part of an input or of a weight.
    for (const at::Tensor& output : work(inputs)) outputs.push_back(output.clone());
    return std::make_unique<EmulatedRecording>(work, inputs, outputs);
  }
};

}  // namespace

namespace test {

EmulatedQueue& emulated_queue() {
  static EmulatedQueue settings;
  return settings;
}

}  // namespace test

std::unique_ptr<Queue> cuda::open_queue(c10::Device) { return std::make_unique<DeferringQueue>(); }

}  // namespace ltrp

#endif
