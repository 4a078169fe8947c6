#include "kernels/cpu/operators.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/backend.h"
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

// Distances between the patches of an image, some rows of them at a time: |x_i - x_j| / sqrt(C).
class Distances {
 public:
  explicit Distances(const at::Tensor& patches)
      : patches_(patches.unsqueeze(0)), root_(std::sqrt(static_cast<double>(patches.size(1)))) {
    if (patches.size(0) <= kByDifferences) return;
    // As at::cdist has it, which would do this for every piece: |x|^2 + |y|^2 - 2 x y is one product.
    const at::Tensor squares = patches_.pow(2).sum(-1, /*keepdim=*/true), ones = at::ones_like(squares);
    left_ = at::cat({patches_.mul(-2), squares, ones}, -1);
    right_ = at::cat({patches_, ones, squares}, -1).mT();
  }

  // Rows [first, first + count): [count, L].
  at::Tensor rows(int64_t first, int64_t count) const {
    if (!left_.defined()) return of(patches_.narrow(1, first, count));
    return of(left_.narrow(1, first, count));
  }
  // The rows of `ids` [m]: [m, L].
  at::Tensor rows(const at::Tensor& ids) const {
    return of((left_.defined() ? left_ : patches_).index_select(1, ids));
  }

 private:
  // at::cdist's limit: for fewer patches it sums up squared differences, which rounds in another way.
  static constexpr int64_t kByDifferences = 25;

  at::Tensor of(const at::Tensor& left) const {
    at::Tensor distance =
        left_.defined() ? left.matmul(right_).clamp_min_(0).sqrt_() : at::cdist(left, patches_);
    return distance.div_(root_)[0];
  }

  at::Tensor patches_, left_, right_;
  double root_;
};

// Distances that are looked at together.
constexpr int64_t kMostDistances = int64_t{1} << 22;

// Patches [L, C], noise [L].
Clusters clusters_of(const at::Tensor& patches, const at::Tensor& noise, int64_t count,
                     const std::function<void()>& poll) {
  const int64_t total = patches.size(0), neighbours = std::min(kNeighbours, total);
  const Distances distances(patches);
  const double flops_of_row = 2 * static_cast<double>(total) * static_cast<double>(patches.size(1));
  const auto between_polls = static_cast<int64_t>(backend_of(patches).flops_at_a_time() / flops_of_row);
  const int64_t at_a_time = std::clamp<int64_t>(std::min(between_polls, kMostDistances / total), 1, total);

  // All of them, where they are few enough to be kept.
  at::Tensor all;
  std::vector<at::Tensor> values, ids, largest;
  for (int64_t first = 0; first < total; first += at_a_time) {
    poll();
    const at::Tensor distance = distances.rows(first, std::min(at_a_time, total - first));
    auto [value, id] = distance.topk(neighbours, -1, /*largest=*/false);
    values.push_back(value);
    ids.push_back(id);
    largest.push_back(distance.max());
    if (at_a_time == total) all = distance;
  }
  const at::Tensor nearest = at::cat(values), nearest_id = at::cat(ids);
  const at::Tensor farthest = at::stack(largest).max();
  const auto rows = [&](const at::Tensor& of) {
    poll();
    return all.defined() ? all.index_select(0, of) : distances.rows(of);
  };

  const at::Tensor density = (-nearest.square().mean(-1)).exp() + noise * 1e-6;
  // A denser patch among the nearest is the nearest denser one; only where none is, all have to be looked at.
  const at::Tensor denser_near =
      density.index_select(0, nearest_id.flatten()).view_as(nearest_id).gt(density.unsqueeze(1));
  at::Tensor separation = std::get<0>(at::where(denser_near, nearest, farthest).min(-1));
  const at::Tensor open = denser_near.any(-1).logical_not().nonzero().flatten();
  for (const at::Tensor& part : open.split(at_a_time)) {
    const at::Tensor own = density.index_select(0, part).unsqueeze(1);
    separation.index_copy_(
        0, part, std::get<0>(at::where(density.unsqueeze(0).gt(own), rows(part), farthest).min(-1)));
  }

  const at::Tensor centres = std::get<1>((separation * density).topk(count));
  at::Tensor assignment, closest;
  int64_t before = 0;
  for (const at::Tensor& part : centres.split(at_a_time)) {
    const at::Tensor distance = rows(part), of_part = distance.argmin(0);
    const at::Tensor value = distance.gather(0, of_part.unsqueeze(0)).squeeze(0), id = of_part + before;
    before += part.size(0);
    if (!assignment.defined()) {
      assignment = id;
      closest = value;
      continue;
    }
    // The first of the centres' order among equally near ones.
    const at::Tensor closer = value.lt(closest);
    assignment = at::where(closer, id, assignment);
    closest = at::where(closer, value, closest);
  }
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

Clusters density_peaks(const at::Tensor& patches, const at::Tensor& noise, int64_t count,
                       const std::function<void()>& poll) {
  if (patches.size(0) == 1) return clusters_of(patches[0], noise[0], count, poll);
  std::vector<at::Tensor> centres, assignment;
  for (int64_t image = 0; image < patches.size(0); ++image) {
    const Clusters found = clusters_of(patches[image], noise[image], count, poll);
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
