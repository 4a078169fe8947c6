#include "core/engine/frozen_ranker.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <atomic>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "core/engine/image_feed.h"
#include "core/engine/teacher.h"
#include "kernels/delta.h"
#include "kernels/forward.h"
#include "kernels/parallel.h"
#include "kernels/pixels.h"
#include "kernels/stages.h"

namespace ltrp {

namespace {

// Tokens that go through the network at a time: enough for full speed of the matrix products, few enough that
// what passes from one to the next stays in a core's own cache.
constexpr int64_t kTokensAtATime = 256;
// Rows that a thread takes at least where threads share images: with fewer, reading the weights takes longer
// than multiplying with them.
constexpr int64_t kFewestRows = 24;

// On a device that work is queued on: images on their way there at a time, and what recordings may keep.
constexpr int64_t kImagesAtATime = 64;
constexpr int64_t kReplayBytes = int64_t{2} << 30;

bool eight_bits(Precision precision) {
  return precision == Precision::kInt8 || precision == Precision::kFloat8;
}

// A CLS head says something about patches that it has not seen, too; training reads no such logit.
at::Tensor with_unseen_last(const at::Tensor& logits, const std::optional<at::Tensor>& visible) {
  if (!visible) return logits;
  return at::full_like(logits, -std::numeric_limits<double>::infinity())
      .scatter_(1, *visible, logits.gather(1, *visible));
}

}  // namespace

FrozenRanker::FrozenRanker(PatchRanker model, Precision wanted)
    : model_(std::move(model)),
      precision_(effective_precision(wanted, model_.device())),
      embedding_precision_(eight_bits(precision_) ? effective_precision(Precision::kBfloat16, model_.device())
                                                  : precision_),
      embedding_(model_.patch_embedding().weight.flatten(1), embedding_precision_),
      stack_(model_.encoder(), precision_) {
  table_ = table_for(config().grid());
  model_.drop_products();
}

at::Tensor FrozenRanker::table_for(Grid grid) const {
  if (table_.defined() && grid == config().grid()) return table_;
  at::Tensor table = model_.token_table(grid);
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
  const at::Tensor table = table_for(grid);
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
  // the images' rows.
  const int64_t threads = at::in_parallel_region() ? 1 : backend.callers();
  const int64_t most = std::max<int64_t>(1, kTokensAtATime / tokens);
  const int64_t rounds = (n + threads * most - 1) / (threads * most);
  const int64_t at_a_time = std::max<int64_t>(1, n / (threads * rounds));
  const int64_t tasks = n / at_a_time / threads * threads;
  for_tasks(
      threads, tasks, [] { return c10::InferenceMode(); },
      [&](int64_t task, const c10::InferenceMode&) { compute(task * at_a_time, at_a_time); });
  const int64_t left = n - tasks * at_a_time, parts = std::min(threads, left * tokens / kFewestRows);
  if (parts > 1) {
    forward_shared(images.narrow(0, n - left, left),
                   visible ? visible->narrow(0, n - left, left) : at::Tensor(), table, parts,
                   result.narrow(0, n - left, left), context);
  } else {
    for (int64_t begin = n - left; begin < n; begin += most) compute(begin, std::min(most, n - begin));
  }
  context.progress(n, n);
  return with_unseen_last(result, visible);
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
  const at::Tensor table = table_for(grid);
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
  return with_unseen_last(queue->download(result), visible);
}

ProductRows FrozenRanker::embed(const at::Tensor& images, const at::Tensor& ids) const {
  return embedding_(images.scalar_type() == at::kByte
                        ? byte_patch_rows(images, config().mean, config().std, config().patch_size, ids,
                                          embedding_precision_)
                        : patch_rows(images, config().patch_size, ids, embedding_precision_));
}

at::Tensor FrozenRanker::forward(const at::Tensor& images, const at::Tensor& visible,
                                 const at::Tensor& table) const {
  const int64_t n = images.size(0), width = config().encoder.dim;
  const ProductRows embedded = embed(images, visible.defined() ? visible.contiguous() : visible);
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

at::Tensor FrozenRanker::tokens_of(const std::vector<SharedPass::Segment>& segments, const at::Tensor& images,
                                   const at::Tensor& ids, bool all_patches, const at::Tensor& table) const {
  int64_t rows = 0, row = 0;
  for (const SharedPass::Segment& segment : segments) rows += segment.size();
  at::Tensor x = at::empty({rows, config().encoder.dim}, table.options());
  for (const SharedPass::Segment& segment : segments) {
    if (segment.first == 0) x[row++].copy_(table[0]);
    const int64_t first = std::max<int64_t>(segment.first, 1), count = segment.end - first;
    if (count == 0) continue;
    const at::Tensor patches = ids[all_patches ? 0 : segment.image].narrow(0, first - 1, count);
    const at::Tensor added = all_patches ? table.narrow(0, first, count) : table.index_select(0, patches + 1);
    x.narrow(0, row, count).copy_(added);
    add_rows({row, row + count, {}}, x, embed(images.narrow(0, segment.image, 1), patches.unsqueeze(0)));
    row += count;
  }
  return x;
}

void FrozenRanker::forward_shared(const at::Tensor& images, const at::Tensor& visible,
                                  const at::Tensor& table, int64_t parts, const at::Tensor& out,
                                  const RunContext& context) const {
  const bool cls = config().head == RankerHead::kCls, all_patches = !visible.defined();
  const at::Tensor ids =
      all_patches ? at::arange(table.size(0) - 1, at::kLong).unsqueeze(0) : visible.contiguous();
  SharedPass pass(stack_, images.size(0), ids.size(1) + 1, parts, cls);
  const auto read_out = [&](int64_t part) {
    const at::Tensor normed = pass.leave(part);
    if (normed.size(0) == 0) return;
    const at::Tensor logits = model_.head_logits(normed);
    int64_t row = 0;
    for (const SharedPass::Segment& segment : pass.segments(part)) {
      const at::Tensor found = out[segment.image];
      if (cls) {
        if (segment.first == 0) found.copy_(logits[row++]);
        continue;
      }
      // The CLS token has a row but no logit.
      const int64_t first = std::max<int64_t>(segment.first, 1), count = segment.end - first;
      const at::Tensor values = logits.narrow(0, row + first - segment.first, count).squeeze(1);
      if (all_patches) {
        found.narrow(0, first - 1, count).copy_(values);
      } else {
        found.index_copy_(0, ids[segment.image].narrow(0, first - 1, count), values);
      }
      row += segment.size();
    }
  };
  for_stages(
      parts, pass.stages(), [] { return c10::InferenceMode(); },
      [&](int64_t stage, int64_t part, const c10::InferenceMode&) {
        context.check();
        if (stage == 0) pass.enter(part, tokens_of(pass.segments(part), images, ids, all_patches, table));
        pass.advance(stage, part);
        if (stage + 1 == pass.stages()) read_out(part);
      });
}

int64_t FrozenRanker::weight_bytes() const {
  return model_.weight_bytes() + embedding_.packed_bytes() + stack_.packed_bytes();
}

}  // namespace ltrp
