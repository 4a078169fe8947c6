#include "core/selectors/k_means.h"

#include <ATen/ATen.h>

#include <algorithm>

#include "core/random.h"
#include "core/selectors/selectors.h"

namespace ltrp {
namespace {

// Squared distances of patches [L, C] from means [K, C]: [L, K]. By differences: products would lose the
// digits that tell near ones apart.
at::Tensor squared_distances(const at::Tensor& patches, const at::Tensor& means, const RunContext& context) {
  std::vector<at::Tensor> columns;
  for (int64_t k = 0; k < means.size(0); ++k) {
    context.check();
    columns.push_back((patches - means[k]).square().sum(-1));
  }
  return at::stack(columns, 1);
}

std::vector<int64_t> plus_plus(const at::Tensor& patches, const at::Tensor& uniform,
                               const RunContext& context) {
  const int64_t total = patches.size(0), count = uniform.numel();
  const auto* draws = uniform.const_data_ptr<double>();
  std::vector<int64_t> chosen{
      std::min(total - 1, static_cast<int64_t>(draws[0] * static_cast<double>(total)))};
  at::Tensor nearest = (patches - patches[chosen[0]]).square().sum(-1);
  for (int64_t k = 1; k < count; ++k) {
    context.check();
    const at::Tensor cumulative = nearest.cumsum(0);
    const double wanted = draws[k] * cumulative[total - 1].item<double>();
    const auto* first = cumulative.const_data_ptr<double>();
    const int64_t place = std::upper_bound(first, first + total, wanted) - first;
    chosen.push_back(std::min(place, total - 1));
    nearest = at::minimum(nearest, (patches - patches[chosen.back()]).square().sum(-1));
  }
  return chosen;
}

}  // namespace

KMeans k_means(const at::Tensor& patches, const at::Tensor& uniform, const RunContext& context) {
  const int64_t total = patches.size(0), count = uniform.numel();
  KMeans result;
  result.initial = plus_plus(patches, uniform, context);
  at::Tensor means = patches.index_select(0, at::tensor(result.initial, at::kLong)).clone();
  at::Tensor assignment, distances;
  for (;;) {
    distances = squared_distances(patches, means, context);
    const at::Tensor next = distances.argmin(1);
    if (assignment.defined() && at::equal(next, assignment)) break;
    assignment = next;
    ++result.rounds;
    const at::Tensor sizes = at::bincount(assignment, {}, count);
    const at::Tensor sums = at::zeros_like(means).index_add_(0, assignment, patches);
    means = at::where(sizes.gt(0).unsqueeze(1), sums / sizes.clamp_min(1).unsqueeze(1), means);
  }
  const auto* ids = assignment.const_data_ptr<int64_t>();
  result.assignment.assign(ids, ids + total);
  result.members.assign(static_cast<size_t>(count), -1);
  const at::Tensor own = distances.gather(1, assignment.unsqueeze(1)).flatten().contiguous();
  const auto* distance = own.const_data_ptr<double>();
  for (int64_t patch = 0; patch < total; ++patch) {
    int64_t& member = result.members[static_cast<size_t>(ids[patch])];
    if (member < 0 || distance[patch] < distance[member]) member = patch;
  }
  return result;
}

// The patch nearest to each of K means of the normalised pixels: 1; the others have 0. Where clusters are
// empty (equal patches) fewer have 1. Costs K distances a patch and round.
at::Tensor k_means_scores(const SelectorInput& input) {
  const uint64_t seed = mix_seed(input.options.seed, static_cast<uint64_t>(input.image));
  const at::Tensor uniform =
      at::empty({input.options.keep}, at::kDouble).uniform_(0, 1, generator_for(seed, 0));
  at::Tensor scores = at::zeros({input.grid.patches()}, at::kFloat);
  for (const int64_t member : k_means(input.patches().to(at::kDouble), uniform, input.context).members) {
    if (member >= 0) scores[member] = 1;
  }
  return scores;
}

}  // namespace ltrp
