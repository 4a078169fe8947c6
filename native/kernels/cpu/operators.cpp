#include "kernels/cpu/operators.h"

#include <ATen/ATen.h>

#include <cmath>
#include <vector>

#include "kernels/forward.h"

namespace ltrp {

namespace generic {

namespace {

constexpr int64_t kNeighbours = 5;  // of the density estimate, the patch itself included

// Ids of [0, count) without `removed`, per variant: removed [m] -> [m, count - 1].
at::Tensor ids_without(const at::Tensor& removed, int64_t count) {
  const at::Tensor slots = at::arange(count - 1, removed.options());
  return slots + slots.ge(removed.unsqueeze(1)).to(at::kLong);
}

// Rows `ids` [m, K] of x[row[i]].
at::Tensor gather_rows(const at::Tensor& x, const at::Tensor& row, const at::Tensor& ids) {
  const int64_t tokens = x.size(1), width = x.size(2);
  // Whole rows, which index_select copies in one go; gather would take each value by itself.
  const at::Tensor rows = (ids + row.unsqueeze(1) * tokens).flatten();
  return x.reshape({-1, width}).index_select(0, rows).view({ids.size(0), ids.size(1), width});
}

// Patches [L, C], noise [L].
Clusters clusters_of(const at::Tensor& patches, const at::Tensor& noise, int64_t count) {
  const int64_t total = patches.size(0);
  const at::Tensor batch = patches.unsqueeze(0);
  const at::Tensor distance = at::cdist(batch, batch)[0] / std::sqrt(static_cast<double>(patches.size(1)));
  const at::Tensor nearest = std::get<0>(distance.topk(std::min(kNeighbours, total), -1, /*largest=*/false));
  const at::Tensor density = (-nearest.square().mean(-1)).exp() + noise * 1e-6;
  const at::Tensor denser = density.unsqueeze(0).gt(density.unsqueeze(1));
  const at::Tensor separation = std::get<0>(at::where(denser, distance, distance.max()).min(-1));
  const at::Tensor centres = std::get<1>((separation * density).topk(count));
  at::Tensor assignment = distance.index_select(0, centres).argmin(0);
  assignment.scatter_(0, centres, at::arange(count, centres.options()));
  return {centres.unsqueeze(0), assignment.unsqueeze(0)};
}

}  // namespace

at::Tensor decoder_input(const DecoderTokens& tokens, const at::Tensor& embedded) {
  const int64_t n = embedded.size(0), width = embedded.size(2), patches = tokens.positions.size(1) - 1;
  // Under autocast the projection is narrower than the mask token: everything meets in the embedded dtype.
  const at::Tensor rows =
      tokens.mask_token.to(embedded.scalar_type())
          .expand({n, patches, width})
          .scatter(1, tokens.visible.unsqueeze(-1).expand({-1, -1, width}), embedded.slice(1, 1));
  return at::cat({embedded.slice(1, 0, 1), rows}, 1) + tokens.positions;
}

at::Tensor decoder_input_without(const DecoderTokens& tokens, const RemovedTokens& removed,
                                 const at::Tensor& embedded) {
  DecoderTokens remaining = tokens;
  remaining.visible = tokens.visible.index_select(0, removed.image)
                          .gather(1, ids_without(removed.slot, tokens.visible.size(1)));
  const at::Tensor ids = ids_without(removed.token, tokens.positions.size(1));
  return gather_rows(generic::decoder_input(remaining, embedded), at::arange(ids.size(0), ids.options()),
                     ids);
}

at::Tensor starting_difference(const DecoderTokens& tokens, const StartingRows& rows) {
  const int64_t m = rows.image.size(0), count = tokens.positions.size(1);
  // Latent 0 is CLS, latent s + 1 the s-th visible token: row ids [m, latents].
  const at::Tensor start = at::arange(m, tokens.visible.options()).unsqueeze(1) * count;
  const at::Tensor ids =
      at::constant_pad_nd(tokens.visible.index_select(0, rows.image) + 1, {1, 0}, 0) + start;
  at::Tensor d = at::zeros({m * count, rows.difference.size(1)}, rows.difference.options());
  d.index_copy_(0, ids.reshape({-1}), rows.difference);
  if (!rows.slot.defined()) return d;
  const at::Tensor removed = tokens.visible.index({rows.image, rows.slot}) + 1 + start.squeeze(1);
  if (rows.embedded.defined()) {
    const at::Tensor embedded = rows.embedded.index({rows.image, rows.slot + 1});
    d.index_copy_(0, removed, tokens.mask_token.view({1, -1}) - embedded);
  } else {
    d.index_fill_(0, removed, 0);
  }
  return d;
}

at::Tensor delete_rows(const at::Tensor& x, const RemovedTokens& removed) {
  return gather_rows(x, removed.image, ids_without(removed.token, x.size(1)));
}

at::Tensor masked_tokens(const at::Tensor& visible, int64_t patches, const RemovedTokens* removed) {
  at::Tensor is_visible = at::zeros({visible.size(0), patches}, visible.options());
  is_visible.scatter_(1, visible, 1);
  const at::Tensor ids =
      is_visible.argsort(/*stable=*/true, 1, false).slice(1, 0, patches - visible.size(1)) + 1;
  if (removed == nullptr) return ids;
  // The tokens behind the gap have moved up by one.
  const at::Tensor of_variant = ids.index_select(0, removed->image);
  return of_variant - of_variant.gt(removed->token.unsqueeze(1)).to(at::kLong);
}

Clusters density_peaks(const at::Tensor& patches, const at::Tensor& noise, int64_t count) {
  if (patches.size(0) == 1) return clusters_of(patches[0], noise[0], count);
  std::vector<at::Tensor> centres, assignment;
  for (int64_t image = 0; image < patches.size(0); ++image) {
    const Clusters found = clusters_of(patches[image], noise[image], count);
    centres.push_back(found.centres);
    assignment.push_back(found.assignment);
  }
  return {at::cat(centres), at::cat(assignment)};
}

}  // namespace generic

namespace cpu {

RoundedRows byte_patch_rows(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std,
                            int64_t patch_size, const at::Tensor& ids, Precision precision) {
  return patch_rows(normalize_pixels(bytes, mean, std), patch_size, ids, precision);
}

}  // namespace cpu

}  // namespace ltrp
