#include "core/engine/frozen_ranker.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "core/engine/image_feed.h"
#include "core/engine/teacher.h"
#include "kernels/delta.h"
#include "kernels/forward.h"
#include "kernels/parallel.h"
#include "kernels/pixels.h"

namespace ltrp {

namespace {

// Tokens that go through the network at a time: enough for full speed of the matrix products, few enough that
// what passes from one to the next stays in a core's own cache.
constexpr int64_t kTokensAtATime = 256;

// On a device that work is queued on: images on their way there at a time, and what recordings may keep.
constexpr int64_t kImagesAtATime = 64;
constexpr int64_t kReplayBytes = int64_t{2} << 30;

bool eight_bits(Precision precision) {
  return precision == Precision::kInt8 || precision == Precision::kFloat8;
}

}  // namespace

FrozenRanker::FrozenRanker(PatchRanker model, Precision wanted)
    : model_(std::move(model)),
      precision_(effective_precision(wanted, model_.device())),
      embedding_precision_(eight_bits(precision_) ? effective_precision(Precision::kBfloat16, model_.device())
                                                  : precision_),
      embedding_(model_.patch_embedding().weight.flatten(1), embedding_precision_),
      stack_(model_.encoder(), precision_) {
  model_.drop_products();
}

at::Tensor FrozenRanker::biased_table(Grid grid) const {
  const at::Tensor table = model_.token_table(grid);
  table.slice(0, 1).add_(model_.patch_embedding().bias);
  return table;
}

at::Tensor FrozenRanker::logits(const at::Tensor& images, const std::optional<at::Tensor>& visible,
                                const RunContext& context) const {
  const Backend& backend = backend_of(model_.device().type());
  if (backend.asynchronous) return queued_logits(images, visible, context);
  const Grid grid = grid_of(images);
  const int64_t n = images.size(0), patches = grid.patches();
  const int64_t tokens = (visible ? visible->size(1) : patches) + 1;
  const at::Tensor table = biased_table(grid);
  const at::Tensor result = at::zeros({n, patches}, table.options());

  std::atomic<int64_t> done{0};
  const auto compute = [&](int64_t begin, int64_t count) {
    context.check();
    const at::Tensor part = images.narrow(0, begin, count), out = result.narrow(0, begin, count);
    const at::Tensor ids = visible ? visible->narrow(0, begin, count) : at::Tensor();
    const at::Tensor found = forward(part, ids, table);
    if (visible && config().head == RankerHead::kToken) {
      out.scatter_(1, ids, found);
    } else {
      out.copy_(found);
    }
    done += count;
    if (at::get_thread_num() == 0) context.progress(done, n);
  };

  // Whole rounds of tasks for all threads; what is left is too little for that, and there the threads share
  // each operator's rows.
  const int64_t threads = at::in_parallel_region() ? 1 : backend.callers();
  const int64_t most = std::max<int64_t>(1, kTokensAtATime / tokens);
  const int64_t rounds = (n + threads * most - 1) / (threads * most);
  const int64_t at_a_time = std::max<int64_t>(1, n / (threads * rounds));
  const int64_t tasks = n / at_a_time / threads * threads;
  for_tasks(
      threads, tasks, [] { return c10::InferenceMode(); },
      [&](int64_t task, const c10::InferenceMode&) { compute(task * at_a_time, at_a_time); });
  for (int64_t begin = tasks * at_a_time; begin < n; begin += most) {
    compute(begin, std::min(most, n - begin));
  }
  context.progress(n, n);
  return result;
}

at::Tensor FrozenRanker::queued_logits(const at::Tensor& images, const std::optional<at::Tensor>& visible,
                                       const RunContext& context) const {
  const std::unique_ptr<Queue> queue = open_queue(model_.device());
  const Grid grid = grid_of(images);
  const int64_t n = images.size(0), patches = grid.patches();
  const int64_t tokens = (visible ? visible->size(1) : patches) + 1;
  const Backend& backend = backend_of(model_.device().type());
  const int64_t most =
      std::clamp<int64_t>(backend.values_at_a_time() / config().encoder.mlp_dim / tokens, 1, kImagesAtATime);
  const at::Tensor table = biased_table(grid);
  const at::Tensor ids = visible ? visible->to(model_.device()) : at::Tensor();
  const bool scattered = visible && config().head == RankerHead::kToken;
  const auto work = [this, table](const std::vector<at::Tensor>& inputs) {
    return std::vector<at::Tensor>{forward(inputs[0], inputs[1], table)};
  };
  const std::string key = std::to_string(grid.rows) + 'x' + std::to_string(grid.columns);
  const at::Tensor result = at::zeros({n, patches}, table.options());
  ImageFeed feed(*queue, images, most);
  for (int64_t begin = 0; begin < n; begin += most) {
    context.check();
    const at::Tensor part = feed.next();
    const int64_t count = part.size(0);
    const at::Tensor part_ids = ids.defined() ? ids.narrow(0, begin, count) : ids;
    const at::Tensor found = replays_->run(*queue, key, {part, part_ids}, kReplayBytes, work)[0];
    const at::Tensor out = result.narrow(0, begin, count);
    if (scattered) {
      out.scatter_(1, part_ids, found);
    } else {
      out.copy_(found);
    }
    feed.prefetch();
    queue->keep_pace();
    context.progress(begin + count, n);
  }
  return queue->download(result);
}

at::Tensor FrozenRanker::forward(const at::Tensor& images, const at::Tensor& visible,
                                 const at::Tensor& table) const {
  const int64_t n = images.size(0), width = config().encoder.dim;
  const at::Tensor patch_ids = visible.defined() ? visible.contiguous() : visible;
  const ProductRows embedded =
      embedding_(images.scalar_type() == at::kByte
                     ? byte_patch_rows(images, config().mean, config().std, config().patch_size, patch_ids,
                                       embedding_precision_)
                     : patch_rows(images, config().patch_size, patch_ids, embedding_precision_));
  const int64_t count = embedded.values.size(0) / n;
  at::Tensor x = at::empty({n, count + 1, width}, table.options());
  x.select(1, 0).copy_(table[0]);
  if (visible.defined()) {
    x.slice(1, 1).copy_(table.index_select(0, visible.flatten() + 1).view({n, count, width}));
  } else {
    x.slice(1, 1).copy_(table.slice(0, 1).expand({n, -1, -1}));
  }
  const auto options = images.options().dtype(at::kInt);
  const at::Tensor ids = (at::arange(count, options).unsqueeze(0) +
                          (at::arange(n, options) * static_cast<int>(count + 1) + 1).unsqueeze(1))
                             .flatten()
                             .contiguous();
  add_rows({0, n * count, ids}, x.view({-1, width}), embedded);
  return model_.read_out(stack_.forward(x, config().head == RankerHead::kCls));
}

int64_t FrozenRanker::weight_bytes() const {
  return model_.weight_bytes() + embedding_.packed_bytes() + stack_.packed_bytes();
}

}  // namespace ltrp
