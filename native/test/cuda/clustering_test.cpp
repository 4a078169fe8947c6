// DPC-KNN on the device: distances against float64, every later step exactly as LibTorch does it from the
// step before, and the authors' clusters.
#include <cmath>
#include <optional>
#include <vector>

#include "core/checkpoint/safetensors.h"
#include "kernels/cuda/launchers.h"
#include "kernels/pixels.h"
#include "test/checkpoint_support.h"
#include "test/cuda/device_tensors.h"

namespace ltrp::test {
namespace {

constexpr int64_t kNeighbours = 5;

struct Clusters {
  at::Tensor distance, density, score;  // [n, L, L], [n, L], [n, L]
  at::Tensor centres, assignment;       // [n, K], [n, L] int64
};

Clusters of_kernel(const at::Tensor& patches, const at::Tensor& noise, int64_t count, int64_t offset = 0,
                   bool ties_by_noise = false) {
  const int64_t n = patches.size(0), total = patches.size(1);
  const at::Tensor x = on_device(patches, offset), of_density = on_device(noise),
                   distance = room_on_device({n, total, total}, at::kFloat, offset),
                   density = room_on_device({n, total}), farthest = room_on_device({n, total}),
                   score = room_on_device({n, total}), centres = room_on_device({n, count}, at::kInt),
                   assignment = room_on_device({n, total}, at::kInt);
  args::DensityPeaks arguments;
  arguments.patches = total;
  arguments.values = patches.size(2);
  arguments.clusters = count;
  arguments.ties_by_noise = ties_by_noise;
  arguments.x = x.const_data_ptr<float>();
  arguments.noise = of_density.const_data_ptr<float>();
  arguments.distance = distance.mutable_data_ptr<float>();
  arguments.density = density.mutable_data_ptr<float>();
  arguments.farthest = farthest.mutable_data_ptr<float>();
  arguments.score = score.mutable_data_ptr<float>();
  arguments.centres = centres.mutable_data_ptr<int32_t>();
  arguments.assignment = assignment.mutable_data_ptr<int32_t>();
  cuda::launch_density_peaks(arguments, n, nullptr);
  return {on_host(distance), on_host(density), on_host(score), on_host(centres).to(at::kLong),
          on_host(assignment).to(at::kLong)};
}

at::Tensor distances(const at::Tensor& patches) {
  return at::cdist(patches, patches) / std::sqrt(static_cast<double>(patches.size(2)));
}

at::Tensor densities(const at::Tensor& distance, const at::Tensor& noise) {
  const at::Tensor nearest =
      std::get<0>(distance.topk(std::min(kNeighbours, distance.size(1)), -1, /*largest=*/false));
  return (-nearest.square().mean(-1)).exp() + noise * 1e-6;
}

// Steps behind the density, each from what the kernels made of the step before.
void check_choice(const Clusters& got, const std::optional<at::Tensor>& ties = {}) {
  const int64_t n = got.density.size(0), total = got.density.size(1), count = got.centres.size(1);
  at::Tensor denser = got.density.unsqueeze(1).gt(got.density.unsqueeze(2));
  if (ties) {
    const at::Tensor tied = got.density.unsqueeze(1).eq(got.density.unsqueeze(2)),
                     louder = ties->unsqueeze(1).gt(ties->unsqueeze(2)),
                     equal = ties->unsqueeze(1).eq(ties->unsqueeze(2)),
                     lower = at::ones({total, total}, at::kBool).tril(-1);
    denser = denser.logical_or(tied.logical_and(louder.logical_or(equal.logical_and(lower))));
  }
  const at::Tensor separation =
      std::get<0>(at::where(denser, got.distance, got.distance.amax({1, 2}, true)).min(-1));
  CHECK(same(got.score, separation * got.density));
  // topk promises no order among equals; a stable sort puts the lower id first.
  CHECK(same(got.centres, got.score.argsort(/*stable=*/true, -1, /*descending=*/true).slice(1, 0, count)));
  for (int64_t image = 0; image < n; ++image) {
    at::Tensor assignment = got.distance[image].index_select(0, got.centres[image]).argmin(0);
    assignment.scatter_(0, got.centres[image], at::arange(count, at::kLong));
    CHECK(same(got.assignment[image], assignment));
  }
  CHECK(total > 0);
}

TEST_CASE("distances and densities: at most twice LibTorch's error in float32; the choice exactly") {
  for (const double scale : {1.0, 1e-3, 100.0}) {
    ErrorBound distance_bound, density_bound;
    const std::vector<std::pair<int64_t, int64_t>> shapes{
        {1, 3}, {2, 1}, {3, 2}, {5, 12}, {6, 5}, {49, 192}, {64, 17}, {65, 300}, {130, 36}, {196, 20}};
    for (const auto& [total, values] : shapes) {
      const int64_t n = total < 60 ? 2 : 1;
      CAPTURE(total);
      CAPTURE(values);
      const at::Tensor patches = normal({n, total, values}, 1, scale, 0.3 * scale),
                       noise = uniform({n, total}, 2);
      for (const int64_t count : {(total + 1) / 2, total}) {
        check_choice(of_kernel(patches, noise, count));
      }
      const Clusters got = of_kernel(patches, noise, 1);
      check_choice(got);
      CHECK(same(got.distance, got.distance.transpose(1, 2)));
      CHECK((got.distance.diagonal(0, 1, 2) == 0).all().item<bool>());
      const at::Tensor exact = distances(patches.to(at::kDouble));
      // LibTorch's own float32 without the form that cancels, which is what few patches get.
      distance_bound.add(got.distance,
                         at::_cdist_forward(patches, patches, 2, /*compute_mode=*/2) /
                             std::sqrt(static_cast<double>(values)),
                         exact);
      density_bound.add(got.density, densities(distances(patches), noise),
                        densities(exact, noise.to(at::kDouble)));
    }
    distance_bound.check();
    density_bound.check();
  }
}

TEST_CASE("rows that are not aligned give the same clusters") {
  const at::Tensor patches = normal({2, 67, 48}, 3), noise = uniform({2, 67}, 4);
  const Clusters aligned = of_kernel(patches, noise, 20), shifted = of_kernel(patches, noise, 20, 1);
  CHECK(same(aligned.distance, shifted.distance));
  CHECK(same(aligned.assignment, shifted.assignment));
}

TEST_CASE("equal patches: ties go to the lower patch and the earlier centre") {
  // Three kinds of patches and no noise: densities, scores and distances are full of ties.
  const at::Tensor kinds = normal({3, 24}, 5),
                   which = at::empty({2, 70}, at::kLong).random_(0, 3, generator_for(6, 1));
  const at::Tensor patches = kinds.index_select(0, which.reshape({-1})).view({2, 70, 24});
  const at::Tensor none = at::zeros({2, 70});
  for (const int64_t count : {1, 3, 4, 30, 70}) check_choice(of_kernel(patches, none, count));
  const at::Tensor some = uniform({2, 70}, 11);
  for (const at::Tensor& noise : {none, some}) {
    const Clusters broken = of_kernel(patches, noise, 30, 0, /*ties_by_noise=*/true);
    check_choice(broken, noise);
    // Of each kind one patch is far from all that are denser.
    CHECK(at::equal(broken.score.gt(0).sum(1), at::full({2}, 3, at::kLong)));
  }
  // One picture of a single colour.
  const Clusters flat = of_kernel(at::full({1, 33, 12}, 0.7), at::zeros({1, 33}), 5);
  CHECK(same(flat.centres[0], at::arange(5, at::kLong)));
  CHECK(same(flat.assignment[0].slice(0, 5), at::zeros({28}, at::kLong)));
  check_choice(flat);
}

TEST_CASE("patches that are far beyond each other") {
  // Densities underflow to the noise; without it to zero.
  const at::Tensor patches = normal({1, 40, 30}, 7, 1e4);
  check_choice(of_kernel(patches, uniform({1, 40}, 8), 9));
  check_choice(of_kernel(patches, at::zeros({1, 40}), 9));
}

TEST_CASE("the authors' clusters") {
  const auto golden = golden_folder();
  if (!golden) return;
  const SafetensorsFile expected = read_safetensors((*golden / "full" / "expected.safetensors").string());
  const at::Tensor patches = patchify_channels_last(expected.tensors.at("pixel_values"), 16);
  // Equal patches differ in density by what is left of their noise in float32; which of them is the denser
  // one, and with that the centre, is decided by the rounding of the authors' distances.
  std::vector<bool> twins;
  for (const at::Tensor& image : patches.unbind()) {
    const at::Tensor exact = distances(image.unsqueeze(0).to(at::kDouble))[0] + at::eye(image.size(0));
    twins.push_back((exact < 1e-6).any().item<bool>());
  }
  REQUIRE(std::count(twins.begin(), twins.end(), true) == 1);
  for (const int64_t keep : {49, 98, 147}) {
    CAPTURE(keep);
    const std::string name = "select_" + std::to_string(keep) + "_";
    const Clusters got = of_kernel(patches, expected.tensors.at(name + "density_noise"), keep);
    check_choice(got);
    for (int64_t image = 0; image < patches.size(0); ++image) {
      const at::Tensor want = expected.tensors.at(name + "clusters")[image];
      if (!twins[image]) CHECK(same(got.assignment[image], want));
    }
  }
}

TEST_CASE("clusters do not depend on the order of threads") {
  const at::Tensor patches = normal({2, 70, 33}, 9), noise = uniform({2, 70}, 10);
  check_every_order([&] {
    const Clusters got = of_kernel(patches, noise, 20);
    return std::vector<at::Tensor>{got.distance, got.density, got.score, got.centres, got.assignment};
  });
}

TEST_CASE("clusters that make no sense are refused") {
  args::DensityPeaks arguments;
  const auto refused = [&] {
    CHECK_THROWS_AS(cuda::launch_density_peaks(arguments, 1, nullptr), std::invalid_argument);
  };
  refused();
  arguments.patches = args::kMostSorted + 1;
  arguments.values = 3;
  arguments.clusters = 1;
  refused();
  arguments.patches = 4;
  arguments.clusters = 5;
  refused();
  arguments.clusters = 0;
  refused();
  arguments.clusters = 1;
  arguments.values = 0;
  refused();
}

}  // namespace
}  // namespace ltrp::test
