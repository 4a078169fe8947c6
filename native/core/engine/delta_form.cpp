#include "core/engine/delta_form.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <string>

#include "core/engine/image_feed.h"
#include "kernels/difference.h"

namespace ltrp {

namespace {

// Rows of variants that make the matrix products worth their calls.
constexpr int64_t kEnoughRows = 4096;

void store_product(const ProductRows& product, at::Tensor target) { target.copy_(product_values(product)); }

}  // namespace

// Images whose anchors are alive at the same time.
struct DeltaForm::Group {
  Grid grid;
  at::Tensor visible;   // [g, V]
  at::Tensor queries;   // [g, L - V] int32: masked tokens; undefined when whole images are wanted
  StackAnchor encoder;  // only where the encoder differs too
  at::Tensor embedded;  // [g, V + 1, E], where a mask token takes a patch's place
  StackAnchor decoder;
  at::Tensor prediction;  // [g, L, C], for ssim
};

DeltaForm::DeltaForm(const MaskedAutoencoder& model, Precision precision, const RunContext& context)
    : model_(model),
      encoder_(model.vit().blocks(), precision, context),
      decoder_(model.decoder(), precision, context),
      decoder_embed_(model.decoder_embed().weight, precision),
      decoder_pred_(model.decoder_pred().weight, precision) {}

int64_t DeltaForm::packed_bytes() const {
  return encoder_.packed_bytes() + decoder_.packed_bytes() + decoder_embed_.packed_bytes() +
         decoder_pred_.packed_bytes();
}

// `latents` [g, V + 1, D] are those of the images where the encoder does not take part in the variants.
DeltaForm::Group DeltaForm::prepare(const at::Tensor& images, const at::Tensor& visible,
                                    const at::Tensor& latents, Grid grid,
                                    const LeaveOneOutOptions& options) const {
  Group group;
  group.grid = grid;
  group.visible = visible;
  if (options.drop != Drop::kDecoder) {
    group.encoder = encoder_.anchor(model_.vit().tokens(images, visible));
  }
  group.decoder = decoder_.anchor(
      model_.decoder_input(latents.defined() ? latents : group.encoder.output, visible, group.grid));
  if (of_whole_images(options.metric)) {
    if (options.metric == Metric::kSsim)
      group.prediction = model_.decoder_pred()(group.decoder.output.slice(1, 1));
    if (options.drop == Drop::kBoth) group.embedded = model_.decoder_embed()(group.encoder.output);
  } else {
    group.queries = masked_tokens(visible, group.grid.patches()).to(at::kInt);
  }
  return group;
}

// How the decoder's input differs where the encoder lacked the token as well: [m * T, E].
at::Tensor DeltaForm::starting_difference(const Group& group, const VariantSet& set, const at::Tensor& slot,
                                          const LeaveOneOutOptions& options,
                                          const RunContext& context) const {
  const int64_t m = set.variants, latents = group.visible.size(1) + 1;
  VariantSet encoder_set;
  encoder_set.variants = m;
  encoder_set.tokens = latents;
  encoder_set.image = set.image;
  const at::Tensor embedded =
      at::empty({m * latents, model_.config().decoder->dim}, group.encoder.output.options());
  encoder_.differences(
      group.encoder, encoder_set, (slot + 1).to(at::kInt), {}, decoder_.precision(), 0,
      [&](const RowRange& range, const RoundedRows& rows) {
        store_product(decoder_embed_(rows), embedded.narrow(0, range.begin, range.size()));
      },
      context);
  StartingRows rows{set.image.to(at::kLong), {}, embedded, {}};
  if (options.drop == Drop::kBoth) {
    // The token itself is gone; what its encoder rows hold means nothing. Nobody sees its own row, except
    // that in a whole image its patch is predicted from the mask token that has taken its place.
    rows.slot = slot;
    rows.embedded = group.embedded;
  }
  return ltrp::starting_difference(model_.decoder_tokens(group.visible, group.grid), rows);
}

// Variants [begin, end) of the group, numbered image-major: [end - begin].
at::Tensor DeltaForm::run(const Group& group, int64_t begin, int64_t end, const LeaveOneOutOptions& options,
                          const RunContext& context) const {
  const int64_t m = end - begin, visible_per_image = group.visible.size(1);
  const at::Tensor variant = at::arange(begin, end, group.visible.options());
  const at::Tensor image = variant.floor_divide(visible_per_image);
  const at::Tensor slot = variant.remainder(visible_per_image);
  VariantSet set;
  set.variants = m;
  set.tokens = group.grid.patches() + 1;
  set.image = image.to(at::kInt);
  set.queries = group.queries;
  at::Tensor removed, d;
  if (options.drop != Drop::kEncoder) removed = (group.visible.index({image, slot}) + 1).to(at::kInt);
  if (options.drop != Drop::kDecoder) d = starting_difference(group, set, slot, options, context);

  const auto reduce = [&](const at::Tensor& into, const auto& reduced) {
    decoder_.differences(
        group.decoder, set, removed, d, decoder_.precision(), options.tolerance,
        [&](const RowRange& range, const RoundedRows& rows) {
          const at::Tensor found = reduced(range, decoder_pred_(rows));
          into.narrow(0, range.begin * into.size(0) / set.rows(), found.size(0)).copy_(found);
        },
        context);
    return into;
  };
  const auto result = group.decoder.output.options();
  if (options.metric == Metric::kSsim) {
    // A range has all rows of its variants.
    return reduce(at::empty({m}, result), [&](const RowRange& range, const ProductRows& change) {
      const at::Tensor images = set.image.narrow(0, range.begin / set.slots(), range.size() / set.slots());
      return structural_similarity(group.prediction, images, change, /*difference=*/true,
                                   {group.grid.rows, group.grid.columns});
    });
  }
  const bool squared = options.metric == Metric::kL2 || options.metric == Metric::kPsnr;
  at::Tensor sums =
      reduce(at::empty({set.rows()}, result.dtype(at::kDouble)),
             [&](const RowRange&, const ProductRows& change) { return row_sums(change, squared); });
  int64_t patches = set.slots();
  if (!set.queries.defined()) {
    // CLS has a row but no patch.
    sums = sums.view({m, set.tokens}).slice(1, 1).contiguous();
    --patches;
  }
  if (options.metric == Metric::kReach) {
    return geometric_mean_of_variants(sums.div_(static_cast<double>(model_.config().patch_values())), m)
        .to(at::kFloat);
  }
  const at::Tensor means =
      sums_of_variants(sums, m).div_(static_cast<double>(patches * model_.config().patch_values()));
  return (options.metric == Metric::kPsnr ? peak_signal_to_noise(means) : means).to(at::kFloat);
}

// How a batch is cut up.
struct DeltaForm::Pieces {
  int64_t group_images = 1;  // whose anchors are alive at the same time
  int64_t chunk = 1;         // variants
  int64_t encoded_at_once = 1;
};

DeltaForm::Pieces DeltaForm::pieces(const at::Tensor& images, int64_t visible,
                                    const LeaveOneOutOptions& options, int64_t memory_budget) const {
  const int64_t tokens = model_.grid_of(images).patches() + 1;
  int64_t anchor_bytes = decoder_.anchor_bytes(tokens), variant_bytes = decoder_.variant_bytes(tokens);
  if (options.drop != Drop::kDecoder) {
    anchor_bytes += encoder_.anchor_bytes(visible + 1);
    variant_bytes += encoder_.variant_bytes(visible + 1);
  }
  if (options.metric == Metric::kSsim) variant_bytes += tokens * model_.config().patch_values() * 4 * 12;
  // One image at a time unless images are so small that several fill a matrix product better.
  const int64_t image_bytes = anchor_bytes + visible * variant_bytes;
  Pieces result;
  result.group_images = std::clamp<int64_t>(
      std::min(memory_budget / image_bytes, kEnoughRows / (visible * tokens)), 1, images.size(0));
  result.chunk = std::max<int64_t>(1, (memory_budget - result.group_images * anchor_bytes) / variant_bytes);
  result.encoded_at_once =
      std::max(result.group_images, kImagesToEncode / result.group_images * result.group_images);
  return result;
}

at::Tensor DeltaForm::metric(const at::Tensor& images, const at::Tensor& visible,
                             const LeaveOneOutOptions& options, const RunContext& context) const {
  const std::unique_ptr<Queue> queue = open_queue(model_.device());
  try {
    return queue->download(metric_on(*queue, images, visible.to(model_.device()), options, context));
  } catch (const c10::OutOfMemoryError&) {
    recordings_->clear();
    throw;
  }
}

at::Tensor DeltaForm::metric_on(Queue& queue, const at::Tensor& images, const at::Tensor& visible,
                                const LeaveOneOutOptions& options, const RunContext& context) const {
  const int64_t n = images.size(0), visible_per_image = visible.size(1), variants = n * visible_per_image;
  // Recordings keep their memory: half of the budget is theirs.
  const int64_t budget = queue.records() ? options.memory_budget / 2 : options.memory_budget;
  const auto [group_images, chunk, encoded_at_once] = pieces(images, visible_per_image, options, budget);
  const Grid grid = model_.grid_of(images);
  // How many rows a tolerance keeps, the host must know: nothing that can be recorded.
  const bool recorded = queue.records() && options.tolerance == 0;
  const std::string key = std::to_string(static_cast<int>(options.drop)) + ' ' +
                          std::to_string(static_cast<int>(options.metric)) + ' ' + std::to_string(grid.rows) +
                          'x' + std::to_string(grid.columns);

  const bool share_encodings = options.drop == Drop::kDecoder;
  ImageFeed feed(queue, images, share_encodings ? encoded_at_once : group_images);
  at::Tensor result = at::empty({variants}, visible.options().dtype(at::kFloat));
  int64_t done = 0;
  at::Tensor latents;
  for (int64_t first = 0; first < n; first += group_images) {
    context.check();
    const int64_t last = std::min(n, first + group_images), ahead = first % encoded_at_once;
    const at::Tensor seen = visible.slice(0, first, last);
    at::Tensor part, encoded;  // of the group
    if (share_encodings) {
      if (ahead == 0) {
        const at::Tensor some = feed.next();
        latents = recordings_->run(queue, "encode", {some, visible.slice(0, first, first + some.size(0))},
                                   options.memory_budget / 2, [this](const std::vector<at::Tensor>& inputs) {
                                     return std::vector<at::Tensor>{model_.encode(inputs[0], inputs[1])};
                                   })[0];
      }
      encoded = latents.slice(0, ahead, ahead + last - first);
    } else {
      part = feed.next();
    }
    const int64_t group_variants = (last - first) * visible_per_image;
    if (recorded && group_variants <= chunk) {
      const auto whole = [this, grid, options, group_variants](const std::vector<at::Tensor>& inputs) {
        const Group group = prepare(inputs[0], inputs[1], inputs[2], grid, options);
        return std::vector<at::Tensor>{run(group, 0, group_variants, options, {})};
      };
      result.slice(0, done, done + group_variants)
          .copy_(recordings_->run(queue, key, {part, seen, encoded}, options.memory_budget / 2, whole)[0]);
      feed.prefetch();
      queue.keep_pace();
      done += group_variants;
      context.progress(done, variants);
      continue;
    }
    const Group group = prepare(part, seen, encoded, grid, options);
    feed.prefetch();
    for (int64_t begin = 0; begin < group_variants; begin += chunk) {
      context.check();
      const int64_t end = std::min(group_variants, begin + chunk);
      result.slice(0, done, done + end - begin).copy_(run(group, begin, end, options, context));
      queue.keep_pace();
      done += end - begin;
      context.progress(done, variants);
    }
  }
  return result.view({n, visible_per_image});
}

}  // namespace ltrp
