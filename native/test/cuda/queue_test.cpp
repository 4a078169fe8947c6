// Recordings, uploads and how the engine uses both: in the emulation, whose queue defers what a GPU defers
// and spoils what a GPU may overwrite.
#include "kernels/queue.h"

#include <atomic>
#include <string>
#include <vector>

#include "core/engine/image_feed.h"
#include "core/engine/inference_ranker.h"
#include "core/engine/leave_one_out.h"
#include "core/engine/masking.h"
#include "core/engine/teacher.h"
#include "core/error.h"
#include "kernels/pixels.h"
#include "kernels/recordings.h"
#include "test/cuda/device_tensors.h"
#include "test/cuda/emulated_queue.h"
#include "test/cuda/with_cuda.h"
#include "test/delta_form_support.h"

namespace ltrp::test {
namespace {

#if defined(LTRP_EMULATE_CUDA)

constexpr int64_t kPlenty = int64_t{1} << 40;

DeviceWork doubled(int* calls = nullptr) {
  return [calls](const std::vector<at::Tensor>& inputs) {
    if (calls != nullptr) ++*calls;
    return std::vector<at::Tensor>{inputs[0] * 2};
  };
}

at::Tensor numbers(int64_t count, uint64_t seed) { return on_device(uniform({count}, seed)); }

class FreshQueues {
 public:
  FreshQueues() { emulated_queue() = {}; }
  ~FreshQueues() { emulated_queue() = {}; }
  FreshQueues(const FreshQueues&) = delete;
  FreshQueues& operator=(const FreshQueues&) = delete;
};

TEST_CASE("an upload holds nothing before it has arrived, and what the host had when it began") {
  const WithCuda with;
  const std::unique_ptr<Queue> queue = open_queue(device());
  at::Tensor host = uniform({3, 4}, 1);
  const at::Tensor kept = host.clone();
  const Queue::Upload upload = queue->upload(host);
  host.fill_(7);
  CHECK_FALSE(same(upload.tensor, kept));
  CHECK(same(queue->arrived(upload), kept));
  CHECK(same(queue->arrived(upload), kept));
}

TEST_CASE("few recordings are kept, the newest ones, and only as much memory as is allowed") {
  const WithCuda with;
  const FreshQueues fresh;
  const std::unique_ptr<Queue> queue = open_queue(device());
  const auto run = [&](Recordings& recordings, int64_t count, int64_t most_bytes) {
    const at::Tensor x = numbers(count, static_cast<uint64_t>(count));
    CHECK(same(recordings.run(*queue, "", {x}, most_bytes, doubled())[0], x * 2));
  };
  Recordings recordings;
  const auto most = static_cast<int64_t>(Recordings::kMost);
  int64_t bytes = 0;
  for (int64_t count = 1; count <= most + 2; ++count) {
    run(recordings, count, kPlenty);
    run(recordings, count, kPlenty);
    if (count > 2) bytes += 1000 + 4 * count;
  }
  CHECK(emulated_queue().recordings == most + 2);
  CHECK(recordings.bytes() == bytes);
  for (int64_t count = 3; count <= most + 2; ++count) run(recordings, count, kPlenty);
  CHECK(emulated_queue().replays == most);
  run(recordings, 1, kPlenty);  // dropped: recorded anew
  CHECK(emulated_queue().recordings == most + 3);
  CHECK(emulated_queue().replays == most);
  // More kinds of work in turn than are kept: recording them is given up.
  for (int round = 0; round < 20; ++round) {
    for (int64_t count = 1; count <= most + 1; ++count) run(recordings, count, kPlenty);
  }
  CHECK(emulated_queue().recordings <= 3 * (most + 2));

  Recordings small;
  for (int i = 0; i < 2; ++i) {
    run(small, 10, 2100);
    run(small, 11, 2100);
  }
  CHECK(small.bytes() == 2 * 1000 + 21 * 4);
  for (int i = 0; i < 2; ++i) run(small, 12, 2100);
  CHECK(small.bytes() == 2 * 1000 + 23 * 4);
  small.clear();
  CHECK(small.bytes() == 0);
  // What is too large by itself is recorded once and not again.
  const int before = emulated_queue().recordings;
  for (int i = 0; i < 5; ++i) run(small, 13, 100);
  CHECK(emulated_queue().recordings == before + 1);
  CHECK(small.bytes() == 0);
}

TEST_CASE("a device that refuses to record is asked once, and its words are kept") {
  const WithCuda with;
  const FreshQueues fresh;
  emulated_queue().refusal = "operation not permitted when stream is capturing";
  const std::unique_ptr<Queue> queue = open_queue(device());
  Recordings recordings;
  int calls = 0;
  for (int i = 0; i < 4; ++i) {
    const at::Tensor x = numbers(5, static_cast<uint64_t>(i));
    CHECK(same(recordings.run(*queue, "", {x}, kPlenty, doubled(&calls))[0], x * 2));
  }
  CHECK(calls == 4);
  CHECK(recordings.replayed() == 0);
  CHECK(recording_problem() == emulated_queue().refusal);
  emulated_queue().refusal.clear();
  const at::Tensor x = numbers(5, 9);
  recordings.run(*queue, "", {x}, kPlenty, doubled());
  CHECK(emulated_queue().recordings == 0);
}

TEST_CASE("no memory for a recording is no reason to fail, nor to stop recording others") {
  const WithCuda with;
  const FreshQueues fresh;
  emulated_queue().out_of_memory = true;
  const std::unique_ptr<Queue> queue = open_queue(device());
  Recordings recordings;
  const at::Tensor x = numbers(5, 1), y = numbers(6, 2);
  for (int i = 0; i < 3; ++i) CHECK(same(recordings.run(*queue, "", {x}, kPlenty, doubled())[0], x * 2));
  emulated_queue().out_of_memory = false;
  for (int i = 0; i < 3; ++i) CHECK(same(recordings.run(*queue, "", {y}, kPlenty, doubled())[0], y * 2));
  CHECK(emulated_queue().recordings == 1);
  CHECK(recordings.replayed() == 1);
}

TEST_CASE("an error of the work itself is passed on") {
  const WithCuda with;
  const std::unique_ptr<Queue> queue = open_queue(device());
  Recordings recordings;
  const DeviceWork failing = [](const std::vector<at::Tensor>&) -> std::vector<at::Tensor> {
    throw Error(codes::kCancelled, "planted");
  };
  for (int i = 0; i < 3; ++i)
    CHECK_THROWS_AS(recordings.run(*queue, "", {numbers(3, 1)}, kPlenty, failing), Error);
}

TEST_CASE("the feed hands out every image once, in order, ahead of time") {
  const WithCuda with;
  const FreshQueues fresh;
  const at::Tensor images = uniform({7, 3, 2, 2}, 1);
  const std::unique_ptr<Queue> queue = open_queue(device());
  ImageFeed feed(*queue, images, 3);
  std::vector<at::Tensor> parts;
  for (int i = 0; i < 3; ++i) {
    parts.push_back(feed.next());
    feed.prefetch();
    feed.prefetch();
    CHECK(emulated_queue().uploads == std::min(i + 2, 3));
  }
  CHECK(same(at::cat(parts), images));
  CHECK_THROWS(feed.next());
}

#endif

TEST_CASE("whether a device records can be asked") {
  CHECK(recording_check(at::kCPU).empty());
  const WithCuda with;
  CHECK(recording_check(device()).empty());
#if defined(LTRP_EMULATE_CUDA)
  const FreshQueues fresh;
  emulated_queue().refusal = "planted";
  CHECK_FALSE(recording_check(device()).empty());
#endif
}

TEST_CASE("the engine's replays give what its first call gives, for new images of the same shape") {
  const MaeCheckpoint checkpoint = random_mae(small_mae_config(), 8);
  const MaskedAutoencoder exact(checkpoint, at::kDouble);
  const at::Tensor visible = visible_from_noise(masking_noise(5, 12, 9), 4);
  const WithCuda with;
  for (const Precision precision : {Precision::kFloat32, Precision::kFloat16}) {
    if (kSanitized && precision == Precision::kFloat32) continue;
    const Teacher teacher(MaskedAutoencoder(checkpoint, at::kFloat, device()), precision);
    const Recordings& recordings =
        teacher.delta() != nullptr ? teacher.delta()->recordings() : *teacher.recordings();
    for (const Drop drop : {Drop::kDecoder, Drop::kEncoder, Drop::kBoth}) {
      for (const Metric metric : {Metric::kL1, Metric::kSsim}) {
        if (kSanitized && metric == Metric::kSsim) continue;
        LeaveOneOutOptions options;
        options.drop = drop;
        options.metric = metric;
        const std::string what = name_of(drop) + ", " + name_of(metric);
        CAPTURE(what);
        const int64_t before = recordings.replayed();
        for (uint64_t call = 0; call < 4; ++call) {
          const at::Tensor images = random_tensor({5, 3, 24, 32}, 20 + call, at::kFloat);
          const at::Tensor want = size_of_change(
              leave_one_out_metric(exact, images.to(at::kDouble), visible, options, {}), metric);
          const at::Tensor got =
              size_of_change(leave_one_out_metric(teacher, images, visible, options, {}), metric);
          CHECK(mean_relative_error(got, want) < (precision == Precision::kFloat32 ? 1e-3 : 2e-2));
        }
        CHECK(recordings.replayed() >= before + 2);
      }
    }
    // How many rows a tolerance keeps cannot be recorded.
    const int64_t before = recordings.replayed();
    LeaveOneOutOptions sparse;
    sparse.tolerance = 0.1;
    sparse.metric = Metric::kL2;
    const at::Tensor images = random_tensor({5, 3, 24, 32}, 30, at::kFloat);
    if (teacher.delta() != nullptr) {
      const at::Tensor first = leave_one_out_metric(teacher, images, visible, sparse, {});
      for (int i = 0; i < 2; ++i)
        CHECK(same(leave_one_out_metric(teacher, images, visible, sparse, {}), first));
      CHECK(recordings.replayed() <= before + 3);  // the encoder's
    }
  }
}

TEST_CASE("a ranker's replays give what its first call gives, from pixels and from bytes") {
  for (const RankerHead head : {RankerHead::kCls, RankerHead::kToken}) {
    const RankerConfig config = small_ranker_config(head);
    const RankerCheckpoint checkpoint{config, perturbed(PatchRanker::initialized(config, 2).tensors(), 2),
                                      "ltrp"};
    const PatchRanker exact(checkpoint, at::kDouble);
    const WithCuda with;
    const InferenceRanker ranker(PatchRanker(checkpoint, at::kFloat, device()), Precision::kFloat32);
    for (uint64_t call = 0; call < 3; ++call) {
      const at::Tensor bytes = (uniform({65, 24, 32, 3}, call) * 256).to(at::kByte);
      const at::Tensor images = on_host(normalize_pixels(on_device(bytes), config.mean, config.std));
      const at::Tensor want = exact.forward(images);
      const double bound = 1e-4 * want.std().item<double>();
      CHECK(largest_error(ranker.logits(images, {}, {}), want) < bound);
      CHECK(largest_error(ranker.logits(bytes, {}, {}), want) < bound);
      const at::Tensor visible = visible_from_noise(masking_noise(65, 12, call), 4);
      CHECK(largest_error(ranker.logits(bytes, visible, {}).gather(1, visible),
                          exact.forward(images, visible).gather(1, visible)) < bound);
    }
    CHECK(ranker.recordings().replayed() == 6);
  }
}

TEST_CASE("bytes give the scores of the pixels that the model makes of them") {
  const MaeCheckpoint checkpoint = random_mae(small_mae_config(), 8);
  const at::Tensor bytes = (uniform({2, 24, 32, 3}, 4) * 256).to(at::kByte);
  const at::Tensor images = normalize_pixels(bytes, checkpoint.config.mean, checkpoint.config.std);
  const at::Tensor visible = visible_from_noise(masking_noise(2, 12, 9), 4);
  const auto check = [&](at::Device where) {
    const Teacher teacher(MaskedAutoencoder(checkpoint, at::kFloat, where), Precision::kFloat32);
    for (const Drop drop : {Drop::kDecoder, Drop::kEncoder, Drop::kBoth}) {
      LeaveOneOutOptions options;
      options.drop = drop;
      CHECK(same(leave_one_out_scores(teacher, bytes, visible, options, {}),
                 leave_one_out_scores(teacher, images, visible, options, {})));
    }
  };
  check(at::kCPU);
  const WithCuda with;
  check(device());
}

TEST_CASE("a cancelled call ends between pieces and leaves recordings that still work") {
  const MaeCheckpoint checkpoint = random_mae(small_mae_config(), 8);
  const at::Tensor images = random_tensor({4, 3, 24, 32}, 3, at::kFloat);
  const at::Tensor visible = visible_from_noise(masking_noise(4, 12, 9), 4);
  const WithCuda with;
  const Teacher teacher(MaskedAutoencoder(checkpoint, at::kFloat, device()), Precision::kFloat32);
  LeaveOneOutOptions options;
  const at::Tensor want = leave_one_out_scores(teacher, images, visible, options, {});
  std::vector<int64_t> seen;
  const RunContext counting(nullptr, [&](int64_t done, int64_t total) {
    CHECK(total == 16);
    seen.push_back(done);
  });
  CHECK(same(leave_one_out_scores(teacher, images, visible, options, counting), want));
  REQUIRE_FALSE(seen.empty());
  CHECK(seen.back() == 16);
  const std::atomic<bool> cancelled{true};
  CHECK_THROWS_AS(leave_one_out_scores(teacher, images, visible, options, {&cancelled, nullptr}), Error);
  CHECK(same(leave_one_out_scores(teacher, images, visible, options, {}), want));
}

}  // namespace
}  // namespace ltrp::test
