#include "core/engine/leave_one_out.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "core/engine/finite.h"
#include "core/engine/image_feed.h"
#include "core/engine/masking.h"
#include "core/model/cost.h"
#include "kernels/backend.h"
#include "kernels/parallel.h"
#include "kernels/recordings.h"

namespace ltrp {

namespace {

// Everything about a group of images that its variants share.
struct Group {
  at::Tensor images;         // [g, 3, H, W]
  at::Tensor visible;        // [g, V]
  at::Tensor masked_tokens;  // [g, L - V], token ids (patch id + 1)
  at::Tensor tokens;         // [g, L + 1, E]: the anchor's decoder input
  at::Tensor first_qkv;      // [g, L + 1, 3E]: of the anchor in the first block
  at::Tensor anchor;         // [g, L - V, C] for l1 and l2, [g, L, C] for psnr and ssim
};

class DirectForm {
 public:
  DirectForm(const MaskedAutoencoder& model, const LeaveOneOutOptions& options, Grid grid)
      : model_(model), options_(options), grid_(grid) {}

  Group prepare(const at::Tensor& images, const at::Tensor& visible) const {
    Group group;
    group.images = images;
    group.visible = visible;
    group.masked_tokens = masked_tokens(visible, grid_.patches()).to(at::kLong);
    group.tokens = model_.decoder_input(model_.encode(images, visible), visible, grid_);
    group.first_qkv = model_.decoder().blocks.front().project_qkv(group.tokens);
    group.anchor = of_whole_images(options_.metric)
                       ? model_.decode(group.tokens)
                       : model_.decode_at(group.tokens, group.masked_tokens, group.first_qkv);
    return group;
  }

  // Variants [begin, end) of the group, numbered image-major: [end - begin] raw metric values.
  at::Tensor run(const Group& group, int64_t begin, int64_t end) const {
    const int64_t visible_per_image = group.visible.size(1);
    const at::Tensor variant = at::arange(begin, end, group.visible.options());
    const at::Tensor image = variant.floor_divide(visible_per_image);
    const at::Tensor slot = variant.remainder(visible_per_image);
    const RemovedTokens removed{image, slot, group.visible.index({image, slot}) + 1};
    return compare(options_.metric, group.anchor, image,
                   of_whole_images(options_.metric) ? whole_prediction(group, removed)
                                                    : masked_prediction(group, removed),
                   grid_);
  }

  // Rough peak of one variant's activations, for the memory budget.
  int64_t bytes_per_variant() const {
    const MaeConfig& config = model_.config();
    const int64_t tokens = grid_.patches() + 1;
    const int64_t decoder = tokens * (6 * config.decoder->dim + 2 * config.decoder->mlp_dim);
    const int64_t pixels = tokens * config.patch_values() * (options_.metric == Metric::kSsim ? 12 : 3);
    const int64_t encoder = tokens * (6 * config.encoder.dim + 2 * config.encoder.mlp_dim);
    return (std::max(decoder, options_.drop == Drop::kDecoder ? 0 : encoder) + pixels) *
           static_cast<int64_t>(c10::elementSize(model_.dtype()));
  }

  double flops_per_variant(int64_t visible) const {
    const MaeConfig& config = model_.config();
    const double decoder = transformer_flops(*config.decoder, grid_.patches() + 1);
    return options_.drop == Drop::kDecoder ? decoder
                                           : decoder + transformer_flops(config.encoder, visible + 1);
  }

 private:
  // Latents of the variants under drop = encoder or both, and the ids they belong to.
  at::Tensor hidden_latents(const Group& group, const RemovedTokens& removed) const {
    const at::Tensor& image = removed.image;
    return model_.encode(group.images.index_select(0, image), group.visible.index_select(0, image),
                         removed.slot);
  }

  at::Tensor masked_prediction(const Group& group, const RemovedTokens& removed) const {
    if (options_.drop == Drop::kEncoder) {
      const at::Tensor tokens = model_.decoder_input(hidden_latents(group, removed),
                                                     group.visible.index_select(0, removed.image), grid_);
      return model_.decode_at(tokens, group.masked_tokens.index_select(0, removed.image));
    }
    const at::Tensor query_ids = masked_tokens(group.visible, grid_.patches(), &removed).to(at::kLong);
    if (options_.drop == Drop::kBoth) {
      const at::Tensor latents =
          model_.encode(group.images.index_select(0, removed.image), visible_without(group.visible, removed));
      const DecoderTokens tokens = model_.decoder_tokens(group.visible, grid_);
      return model_.decode_at(decoder_input_without(tokens, removed, model_.decoder_embed()(latents)),
                              query_ids);
    }
    return model_.decode_at(delete_rows(group.tokens, removed), query_ids,
                            delete_rows(group.first_qkv, removed));
  }

  // Predictions of all L patches. The removed token is hidden rather than deleted here: its own residual
  // stream is all that predicts its patch.
  at::Tensor whole_prediction(const Group& group, const RemovedTokens& removed) const {
    const at::Tensor& image = removed.image;
    if (options_.drop == Drop::kEncoder) {
      return model_.decode(
          model_.decoder_input(hidden_latents(group, removed), group.visible.index_select(0, image), grid_));
    }
    at::Tensor input;
    if (options_.drop == Drop::kDecoder) {
      input = group.tokens.index_select(0, image);
    } else {
      const at::Tensor visible = visible_without(group.visible, removed);
      input =
          model_.decoder_input(model_.encode(group.images.index_select(0, image), visible), visible, grid_);
    }
    return model_.decoder_pred()(model_.decoder().forward(input, removed.token).slice(1, 1));
  }

  const MaskedAutoencoder& model_;
  LeaveOneOutOptions options_;
  Grid grid_;
};

void check(const MaskedAutoencoder& model, const at::Tensor& images, const at::Tensor& visible,
           const LeaveOneOutOptions& options) {
  validate(options);
  const Grid grid = model.grid_of(images);
  model.decoder();  // refuses encoder-only checkpoints
  check_visible(visible, images.size(0), grid.patches());
  if (options.drop == Drop::kBoth && visible.size(1) < 2) {
    invalid("maskRatio must leave at least two visible patches for drop 'both'; it leaves one.");
  }
  const int64_t shorter = std::min(grid.rows, grid.columns) * model.config().patch_size;
  if (of_whole_images(options.metric) && shorter < 11) {
    invalid("images must be at least 11 x 11 pixels for the metrics psnr and ssim; the shorter side is " +
            std::to_string(shorter) + ".");
  }
}

// `images` on the host or on the model's device; [n, V] there. `recordings`: null where nothing is recorded.
at::Tensor direct_metric(Queue& queue, Recordings* recordings, const MaskedAutoencoder& model,
                         const at::Tensor& images, const at::Tensor& visible,
                         const LeaveOneOutOptions& options, const RunContext& context) {
  const int64_t n = images.size(0), visible_per_image = visible.size(1), variants = n * visible_per_image;
  const Grid grid = model.grid_of(images);
  const DirectForm engine(model, options, grid);
  const bool recorded = recordings != nullptr && queue.records();
  // Each thread takes variants through the whole decoder: no barriers, and what passes from one layer to the
  // next stays in its own cache. A chunk fits the memory budget and is short enough that a cancelled call
  // ends at once. Recordings keep their memory: half of the budget is theirs.
  const Backend& backend = backend_of(visible);
  const int64_t threads = backend.callers(), budget = options.memory_budget / (recorded ? 2 : 1);
  const int64_t fit_memory = std::max<int64_t>(1, budget / (threads * engine.bytes_per_variant()));
  const int64_t fit_time =
      items_between_polls(engine.flops_per_variant(visible_per_image), visible.device().type());
  const int64_t chunk = std::min(fit_memory, fit_time);
  // The anchors of a group stay alive while its variants run, and cost about a variant each. Several chunks
  // per thread, so that no thread waits long for the others; a device that work is queued on takes a group in
  // one piece where that is possible.
  const int64_t busy = std::max(kImagesToEncode, 8 * threads * chunk / visible_per_image + 1);
  const int64_t in_one_piece = std::max<int64_t>(1, chunk / visible_per_image);
  const int64_t group_images =
      std::clamp<int64_t>(std::min(fit_memory, recorded ? in_one_piece : busy), 1, n);
  const std::string key =
      std::to_string(static_cast<int>(options.drop)) + ' ' + std::to_string(static_cast<int>(options.metric));

  at::Tensor result = at::empty({variants}, visible.options().dtype(model.dtype()));
  ImageFeed feed(queue, images, group_images);
  std::mutex progress;
  int64_t done = 0;
  for (int64_t first = 0; first < n; first += group_images) {
    context.check();
    const int64_t last = std::min(n, first + group_images);
    const int64_t group_variants = (last - first) * visible_per_image, offset = first * visible_per_image;
    const at::Tensor part = feed.next(), seen = visible.slice(0, first, last);
    if (recorded && group_variants <= chunk) {
      const auto whole = [engine, group_variants](const std::vector<at::Tensor>& inputs) {
        return std::vector<at::Tensor>{engine.run(engine.prepare(inputs[0], inputs[1]), 0, group_variants)};
      };
      result.slice(0, offset, offset + group_variants)
          .copy_(recordings->run(queue, key, {part, seen}, options.memory_budget / 2, whole)[0]);
      feed.prefetch();
      queue.keep_pace();
      done += group_variants;
      context.progress(done, variants);
      continue;
    }
    const Group group = engine.prepare(part, seen);
    feed.prefetch();
    for_tasks(
        threads, (group_variants + chunk - 1) / chunk, [] { return c10::InferenceMode(); },
        [&](int64_t task, const c10::InferenceMode&) {
          context.check();
          const int64_t begin = task * chunk, end = std::min(group_variants, begin + chunk);
          result.slice(0, offset + begin, offset + end).copy_(engine.run(group, begin, end));
          if (backend.asynchronous) queue.keep_pace();
          const std::lock_guard lock(progress);
          done += end - begin;
          context.progress(done, variants);
        });
  }
  return result.view({n, visible_per_image});
}

// Where memory runs out although the budget was kept to (fragments, other processes), a quarter of it is
// tried next.
constexpr int64_t kSmallestBudget = int64_t{8} << 20;

}  // namespace

at::Tensor leave_one_out_metric(const Teacher& teacher, const at::Tensor& images, const at::Tensor& visible,
                                const LeaveOneOutOptions& options, const RunContext& context) {
  const c10::InferenceMode inference;
  const MaskedAutoencoder& model = teacher.model();
  check(model, images, visible, options);
  const c10::DeviceGuard guard(model.device());
  LeaveOneOutOptions fitting = options;
  fitting.memory_budget =
      std::min(options.memory_budget, backend_of(model.device().type()).free_memory() / 2);
  const auto direct = [&] {
    const std::unique_ptr<Queue> queue = open_queue(model.device());
    const at::Tensor visible_here = visible.to(model.device());
    return queue->download(
        direct_metric(*queue, teacher.recordings(), model, images, visible_here, fitting, context));
  };
  for (;;) {
    try {
      return teacher.delta() != nullptr ? teacher.delta()->metric(images, visible, fitting, context)
                                        : direct();
    } catch (const c10::OutOfMemoryError& error) {
      if (teacher.recordings() != nullptr) teacher.recordings()->clear();
      if (fitting.memory_budget <= kSmallestBudget) {
        throw Error(codes::kOutOfMemory,
                    std::string("The device's memory does not suffice for a single image: ") +
                        error.what_without_backtrace());
      }
      fitting.memory_budget /= 4;
    }
  }
}

at::Tensor scores_of(const at::Tensor& metric, Metric kind) {
  if (!of_whole_images(kind)) return metric;
  const at::Tensor low = metric.min(), span = metric.max() - low;
  // Where all are equal there is nothing to tell apart.
  if (span.item<double>() == 0) return at::zeros_like(metric);
  return 1 - (metric - low) / span;
}

at::Tensor leave_one_out_scores(const Teacher& teacher, const at::Tensor& images, const at::Tensor& visible,
                                const LeaveOneOutOptions& options, const RunContext& context) {
  const at::Tensor metric = leave_one_out_metric(teacher, images, visible, options, context);
  check_finite_result(metric, "scores");
  return scores_of(metric, options.metric);
}

}  // namespace ltrp
