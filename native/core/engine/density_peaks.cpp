#include "core/engine/density_peaks.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/chains.h"
#include "kernels/tensor_arguments.h"

namespace ltrp {

namespace {

constexpr int64_t kNeighbours = 5;  // of the density estimate, the patch itself included

// Distances between the patches of an image, some rows of them at a time: |x_i - x_j| / sqrt(C).
class Distances {
 public:
  explicit Distances(const at::Tensor& patches)
      : patches_(patches.unsqueeze(0)), root_(std::sqrt(static_cast<double>(patches.size(1)))) {
    if (patches.size(0) <= kByDifferences || patches.scalar_type() == at::kDouble) return;
    // As at::cdist has it, which would do this for every piece: |x|^2 + |y|^2 - 2 x y is one product.
    const at::Tensor squares = patches_.pow(2).sum(-1, /*keepdim=*/true), ones = at::ones_like(squares);
    left_ = at::cat({patches_.mul(-2), squares, ones}, -1);
    right_ = at::cat({patches_, ones, squares}, -1)[0].mT().contiguous();
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
  static constexpr int64_t kWithoutProducts = 2;  // at::cdist's
  // at::cdist's limit: for fewer patches it sums up squared differences, which rounds in another way.
  static constexpr int64_t kByDifferences = 25;

  at::Tensor of(const at::Tensor& left) const {
    // Which of nearly equal patches the authors' code keeps, the rounding of this product decides.
    // Elsewhere differences: equal patches have no distance then, and float64 is not in a hurry.
    at::Tensor distance = left_.defined() ? chained_product(left[0], right_).clamp_min_(0).sqrt_()
                                          : at::cdist(left, patches_, /*p=*/2, kWithoutProducts)[0];
    return distance.div_(root_);
  }

  at::Tensor patches_, left_, right_;
  double root_;
};

// On a CPU one value at a time: whole vectors of LibTorch's begin elsewhere with another number of threads.
at::Tensor exponentials(const at::Tensor& x) {
  if (!x.is_cpu()) return x.exp();
  const at::Tensor result = x.to(at::kDouble, /*non_blocking=*/false, /*copy=*/true).contiguous();
  auto* value = result.mutable_data_ptr<double>();
  for (int64_t i = 0; i < result.numel(); ++i) value[i] = std::exp(value[i]);
  return result.to(x.scalar_type());
}

// Distances that are looked at together.
constexpr int64_t kMostDistances = int64_t{1} << 22;

// The patches of one image as possible centres.
struct Peaks {
  Distances distances;
  int64_t at_a_time;  // rows of distances
  at::Tensor all;     // distances, where they are few enough to be kept
  at::Tensor score;   // [L]: separation * density
  const std::function<void()>& poll;

  // Distances from the patches `ids` [m]: [m, L].
  at::Tensor rows(const at::Tensor& ids) const {
    poll();
    return all.defined() ? all.index_select(0, ids) : distances.rows(ids);
  }
};

// Which patches are denser than which others: a strict order.
struct Order {
  at::Tensor density, noise, id;  // broadcast against each other

  at::Tensor denser_than(const Order& other, Ties ties) const {
    const at::Tensor denser = density.gt(other.density);
    if (ties == Ties::kNone) return denser;
    const at::Tensor louder = noise.gt(other.noise),
                     lower = noise.eq(other.noise).logical_and_(id.lt(other.id));
    return denser.logical_or(density.eq(other.density).logical_and_(louder.logical_or(lower)));
  }
  Order of(const at::Tensor& ids) const {
    const auto some = [&](const at::Tensor& x) { return x.index_select(0, ids.flatten()).view_as(ids); };
    return {some(density), some(noise), ids};
  }
  Order unsqueezed(int64_t dim) const {
    return {density.unsqueeze(dim), noise.unsqueeze(dim), id.unsqueeze(dim)};
  }
};

// Patches [L, C], noise [L].
Peaks peaks_of(const at::Tensor& patches, const at::Tensor& noise, Ties ties,
               const std::function<void()>& poll) {
  const int64_t total = patches.size(0), neighbours = std::min(kNeighbours, total);
  const double flops_of_row = 2 * static_cast<double>(total) * static_cast<double>(patches.size(1));
  const auto between_polls = static_cast<int64_t>(backend_of(patches).flops_at_a_time() / flops_of_row);
  const int64_t at_a_time = std::clamp<int64_t>(std::min(between_polls, kMostDistances / total), 1, total);
  Peaks peaks{Distances(patches), at_a_time, {}, {}, poll};

  std::vector<at::Tensor> values, ids, largest;
  for (int64_t first = 0; first < total; first += at_a_time) {
    poll();
    const at::Tensor distance = peaks.distances.rows(first, std::min(at_a_time, total - first));
    auto [value, id] = distance.topk(neighbours, -1, /*largest=*/false);
    values.push_back(value);
    ids.push_back(id);
    largest.push_back(distance.max());
    if (at_a_time == total) peaks.all = distance;
  }
  const at::Tensor nearest = at::cat(values), nearest_id = at::cat(ids);
  const at::Tensor farthest = at::stack(largest).max();

  const at::Tensor density = exponentials(-nearest.square().mean(-1)) + noise * 1e-6;
  const Order order{density, noise, at::arange(total, nearest_id.options())};
  // A denser patch among the nearest is the nearest denser one; only where none is, all have to be looked at.
  const at::Tensor denser_near = order.of(nearest_id).denser_than(order.unsqueezed(1), ties);
  at::Tensor separation = std::get<0>(at::where(denser_near, nearest, farthest).min(-1));
  const at::Tensor open = denser_near.any(-1).logical_not().nonzero().flatten();
  for (const at::Tensor& part : open.split(at_a_time)) {
    const at::Tensor denser = order.unsqueezed(0).denser_than(order.of(part).unsqueezed(1), ties);
    separation.index_copy_(0, part, std::get<0>(at::where(denser, peaks.rows(part), farthest).min(-1)));
  }
  peaks.score = separation * density;
  return peaks;
}

Clusters clusters_of(const at::Tensor& patches, const at::Tensor& noise, int64_t count, Ties ties,
                     const std::function<void()>& poll) {
  const Peaks peaks = peaks_of(patches, noise, ties, poll);
  const at::Tensor centres = std::get<1>(peaks.score.topk(count));
  at::Tensor assignment, closest;
  int64_t before = 0;
  for (const at::Tensor& part : centres.split(peaks.at_a_time)) {
    const at::Tensor distance = peaks.rows(part), of_part = distance.argmin(0);
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

// Distances of that many images are in a device's memory at a time.
constexpr int64_t kDistancesAtATime = int64_t{1} << 26;

// All images at once, by the device's kernel.
Clusters kernel_clusters(const SpecialKernels& kernels, const at::Tensor& patches, const at::Tensor& noise,
                         int64_t count, Ties ties, const std::function<void()>& poll) {
  const int64_t n = patches.size(0), total = patches.size(1);
  const int64_t at_a_time =
      std::clamp<int64_t>(kDistancesAtATime / (total * total), 1, std::min(n, args::kMostOfGrid));
  const auto room = [&](at::IntArrayRef sizes, at::ScalarType type) {
    return at::empty(sizes, patches.options().dtype(type));
  };
  const at::Tensor distance = room({at_a_time, total, total}, at::kFloat),
                   density = room({at_a_time, total}, at::kFloat),
                   farthest = room({at_a_time, total}, at::kFloat),
                   score = room({at_a_time, total}, at::kFloat), centres = room({n, count}, at::kInt),
                   assignment = room({n, total}, at::kInt);
  args::DensityPeaks arguments;
  arguments.patches = total;
  arguments.values = patches.size(2);
  arguments.clusters = count;
  arguments.ties_by_noise = ties == Ties::kByNoise;
  arguments.distance = distance.mutable_data_ptr<float>();
  arguments.density = density.mutable_data_ptr<float>();
  arguments.farthest = farthest.mutable_data_ptr<float>();
  arguments.score = score.mutable_data_ptr<float>();
  for (int64_t first = 0; first < n; first += at_a_time) {
    poll();
    arguments.x = floats(patches) + first * total * arguments.values;
    arguments.noise = floats(noise) + first * total;
    arguments.centres = centres.mutable_data_ptr<int32_t>() + first * count;
    arguments.assignment = assignment.mutable_data_ptr<int32_t>() + first * total;
    kernels.density_peaks(arguments, std::min(at_a_time, n - first));
  }
  return {centres.to(at::kLong), assignment.to(at::kLong)};
}

}  // namespace

at::Tensor density_peak_scores(const at::Tensor& patches, const at::Tensor& noise,
                               const std::function<void()>& poll) {
  return peaks_of(patches, noise, Ties::kByNoise, poll).score;
}

Clusters density_peaks(const at::Tensor& patches, const at::Tensor& noise, int64_t count, Ties ties,
                       const std::function<void()>& poll) {
  const SpecialKernels* kernels = backend_of(patches).special;
  if (kernels != nullptr && patches.size(1) <= args::kMostSorted)
    return kernel_clusters(*kernels, patches, noise, count, ties, poll);
  std::vector<at::Tensor> centres, assignment;
  for (int64_t image = 0; image < patches.size(0); ++image) {
    const Clusters found = clusters_of(patches[image], noise[image], count, ties, poll);
    centres.push_back(found.centres);
    assignment.push_back(found.assignment);
  }
  return {at::cat(centres), at::cat(assignment)};
}

}  // namespace ltrp
