#include "core/engine/inference.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <utility>
#include <vector>

#include "core/device/precision.h"
#include "core/engine/finite.h"
#include "core/engine/image_feed.h"
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

}  // namespace

InferenceVit::InferenceVit(const Vit& vit, Precision wanted, const RunContext& context)
    : vit_(vit),
      precision_(effective_precision(wanted, vit.device())),
      embedding_precision_(eight_bits(precision_) ? effective_precision(Precision::kBfloat16, vit.device())
                                                  : precision_),
      embedding_(vit.patch_embedding().weight.flatten(1), embedding_precision_),
      stack_(vit.blocks(), precision_, context) {
  table_ = table_for(config().grid());
}

at::Tensor InferenceVit::table_for(Grid grid) const {
  if (table_.defined() && grid == config().grid()) return table_;
  at::Tensor table = vit_.token_table(grid);
  table.slice(0, 1).add_(vit_.patch_embedding().bias);
  return table;
}

at::Tensor InferenceVit::read(const at::Tensor& images, const std::optional<at::Tensor>& given,
                              const TokenReader& reader, const RunContext& context) const {
  const Backend& backend = backend_of(vit_.device().type());
  if (backend.asynchronous) return queued_read(images, given, reader, context);
  const Grid grid = vit_.grid_of(images);
  const int64_t n = images.size(0), tokens = (given ? given->size(1) : grid.patches()) + 1;
  const at::Tensor table = table_for(grid);
  const at::Tensor result = at::empty({n, reader.outputs}, table.options());
  const auto ids = [&](int64_t begin, int64_t count) {
    return given ? given->narrow(0, begin, count) : at::Tensor();
  };

  std::atomic<int64_t> done{0};
  const auto compute = [&](int64_t begin, int64_t count) {
    context.check();
    result.narrow(0, begin, count)
        .copy_(reader.read(
            forward(images.narrow(0, begin, count), ids(begin, count), table, reader.first_only)));
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
    result.narrow(0, n - left, left)
        .copy_(reader.read(forward_shared(images.narrow(0, n - left, left), ids(n - left, left), table,
                                          reader.first_only, parts, context)));
  } else {
    for (int64_t begin = n - left; begin < n; begin += most) compute(begin, std::min(most, n - begin));
  }
  context.progress(n, n);
  check_finite_result(result, reader.name);
  return result;
}

at::Tensor InferenceVit::queued_read(const at::Tensor& images, const std::optional<at::Tensor>& given,
                                     const TokenReader& reader, const RunContext& context) const {
  const std::unique_ptr<Queue> queue = open_queue(vit_.device());
  const Grid grid = vit_.grid_of(images);
  const int64_t n = images.size(0), tokens = (given ? given->size(1) : grid.patches()) + 1;
  const Backend& backend = backend_of(vit_.device().type());
  const int64_t most =
      std::clamp<int64_t>(backend.values_at_a_time() / config().encoder.mlp_dim / tokens, 1, kImagesAtATime);
  const at::Tensor table = table_for(grid);
  const at::Tensor ids = given ? given->to(vit_.device()) : at::Tensor();
  const auto work = [this, table, reader](const std::vector<at::Tensor>& inputs) {
    return std::vector<at::Tensor>{reader.read(forward(inputs[0], inputs[1], table, reader.first_only))};
  };
  const std::string key = reader.name + std::to_string(grid.rows) + 'x' + std::to_string(grid.columns);
  const at::Tensor result = at::zeros({n, reader.outputs}, table.options());
  ImageFeed feed(*queue, images, most);
  for (int64_t begin = 0; begin < n; begin += most) {
    context.check();
    const at::Tensor part = feed.next();
    const int64_t count = part.size(0);
    const at::Tensor part_ids = ids.defined() ? ids.narrow(0, begin, count) : ids;
    const at::Tensor found = recordings_->run(*queue, key, {part, part_ids}, kReplayBytes, work)[0];
    result.narrow(0, begin, count).copy_(found);
    feed.prefetch();
    queue->keep_pace();
    context.progress(begin + count, n);
  }
  const at::Tensor downloaded = queue->download(result);
  check_finite_result(downloaded, reader.name);
  return downloaded;
}

ProductRows InferenceVit::embed(const at::Tensor& images, const at::Tensor& ids) const {
  return embedding_(images.scalar_type() == at::kByte
                        ? byte_patch_rows(images, config().mean, config().std, config().patch_size, ids,
                                          embedding_precision_)
                        : patch_rows(images, config().patch_size, ids, embedding_precision_));
}

at::Tensor InferenceVit::tokens(const at::Tensor& images) const {
  return embedded(images, {}, table_for(vit_.grid_of(images)));
}

at::Tensor InferenceVit::forward(const at::Tensor& images, const at::Tensor& ids, const at::Tensor& table,
                                 bool first_only) const {
  return stack_.forward(embedded(images, ids, table), first_only);
}

at::Tensor InferenceVit::embedded(const at::Tensor& images, const at::Tensor& ids,
                                  const at::Tensor& table) const {
  const int64_t n = images.size(0), width = config().encoder.dim;
  const ProductRows patches = embed(images, ids.defined() ? ids.contiguous() : ids);
  const int64_t count = patches.values.size(0) / n;
  at::Tensor x = at::empty({n, count + 1, width}, table.options());
  x.select(1, 0).copy_(table[0]);
  if (ids.defined()) {
    x.slice(1, 1).copy_(table.index_select(0, ids.flatten() + 1).view({n, count, width}));
  } else {
    x.slice(1, 1).copy_(table.slice(0, 1).expand({n, -1, -1}));
  }
  const auto options = images.options().dtype(at::kInt);
  const at::Tensor rows = (at::arange(count, options).unsqueeze(0) +
                           (at::arange(n, options) * static_cast<int>(count + 1) + 1).unsqueeze(1))
                              .flatten()
                              .contiguous();
  add_rows({0, n * count, rows}, x.view({-1, width}), patches);
  return x;
}

at::Tensor InferenceVit::tokens_of(const std::vector<RowParallelPass::Segment>& segments,
                                   const at::Tensor& images, const at::Tensor& ids, bool all_patches,
                                   const at::Tensor& table) const {
  int64_t rows = 0, row = 0;
  for (const RowParallelPass::Segment& segment : segments) rows += segment.size();
  at::Tensor x = at::empty({rows, config().encoder.dim}, table.options());
  for (const RowParallelPass::Segment& segment : segments) {
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

at::Tensor InferenceVit::forward_shared(const at::Tensor& images, const at::Tensor& given,
                                        const at::Tensor& table, bool first_only, int64_t parts,
                                        const RunContext& context) const {
  const bool all_patches = !given.defined();
  const at::Tensor ids =
      all_patches ? at::arange(table.size(0) - 1, at::kLong).unsqueeze(0) : given.contiguous();
  const int64_t tokens = ids.size(1) + 1;
  RowParallelPass pass(stack_, images.size(0), tokens, parts, first_only);
  const at::Tensor result =
      at::empty({images.size(0), first_only ? 1 : tokens, config().encoder.dim}, table.options());
  const auto leave = [&](int64_t part) {
    const at::Tensor normed = pass.leave(part);
    int64_t row = 0;
    for (const RowParallelPass::Segment& segment : pass.segments(part)) {
      if (first_only && segment.first > 0) continue;
      const int64_t count = first_only ? 1 : segment.size();
      result[segment.image].narrow(0, segment.first, count).copy_(normed.narrow(0, row, count));
      row += count;
    }
  };
  for_stages(
      parts, pass.stages(), [] { return c10::InferenceMode(); },
      [&](int64_t stage, int64_t part, const c10::InferenceMode&) {
        context.check();
        if (stage == 0) pass.enter(part, tokens_of(pass.segments(part), images, ids, all_patches, table));
        pass.advance(stage, part);
        if (stage + 1 == pass.stages()) leave(part);
      });
  return result;
}

}  // namespace ltrp
