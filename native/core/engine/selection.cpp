#include "core/engine/selection.h"

#include <ATen/ATen.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "core/check.h"
#include "core/engine/density_peaks.h"
#include "core/random.h"
#include "kernels/backend.h"
#include "kernels/parallel.h"
#include "kernels/pixels.h"

namespace ltrp {

namespace {

std::vector<int64_t> to_vector(const at::Tensor& ids) {
  const at::Tensor flat = ids.contiguous();
  return {flat.const_data_ptr<int64_t>(), flat.const_data_ptr<int64_t>() + flat.numel()};
}

// One member of every cluster of one image, largest clusters first; those whose member is kept already come
// last.
std::vector<int64_t> representatives(const Clusters& clusters, const std::vector<char>& is_kept,
                                     const std::optional<at::Tensor>& member_noise) {
  const int64_t count = clusters.centres.numel();
  std::vector<int64_t> member = to_vector(clusters.centres);
  if (member_noise) {
    const std::vector<int64_t> assignment = to_vector(clusters.assignment);
    const at::Tensor noise = member_noise->contiguous();
    const float* values = noise.const_data_ptr<float>();
    std::vector<float> best(static_cast<size_t>(count), -1.0F);
    for (size_t patch = 0; patch < assignment.size(); ++patch) {
      const auto cluster = static_cast<size_t>(assignment[patch]);
      if (values[patch] > best[cluster]) {
        best[cluster] = values[patch];
        member[cluster] = static_cast<int64_t>(patch);
      }
    }
  }
  const at::Tensor sizes = at::bincount(clusters.assignment.flatten(), {}, count);
  auto* size = sizes.mutable_data_ptr<int64_t>();
  for (size_t cluster = 0; cluster < member.size(); ++cluster) {
    if (is_kept[static_cast<size_t>(member[cluster])] != 0) size[cluster] = 0;
  }
  // Among clusters of one size the authors' order is what the unstable sort leaves, the zeros included.
  const bool stable = !member_noise.has_value();
  const std::vector<int64_t> order = to_vector(sizes.argsort(stable, /*dim=*/-1, /*descending=*/true));
  std::vector<int64_t> result;
  result.reserve(order.size());
  for (const int64_t cluster : order) result.push_back(member[static_cast<size_t>(cluster)]);
  return result;
}

void check(const at::Tensor& images, const at::Tensor& logits, const SelectionOptions& options,
           int64_t patches) {
  validate(options, patches);
  for (const auto& [name, values] : {std::pair{"logits", std::optional(logits)},
                                     {"densityNoise", options.density_noise},
                                     {"memberNoise", options.member_noise}}) {
    if (values && values->sizes() != at::IntArrayRef{images.size(0), patches}) {
      invalid(std::string(name) + " must hold one value for each of the " + std::to_string(patches) +
              " patches of each image; got " + std::to_string(values->numel()) + ".");
    }
  }
}

// The patches of each image that may be chosen, ascending; empty where all may be in all images.
std::vector<at::Tensor> candidates(const at::Tensor& logits, int64_t keep) {
  const at::Tensor may = logits.ne(-std::numeric_limits<float>::infinity());
  std::vector<at::Tensor> result;
  if (may.all().item<bool>()) return result;
  for (int64_t image = 0; image < logits.size(0); ++image) {
    result.push_back(may[image].nonzero().flatten());
    const int64_t count = result.back().numel();
    if (count < keep) {
      invalid("keep must not exceed the patches that may be chosen, and image " + std::to_string(image) +
              " has " + std::to_string(count) + " with a logit above -Infinity; got " + std::to_string(keep) +
              ".");
    }
  }
  return result;
}

}  // namespace

void validate(const SelectionOptions& options, int64_t patches) {
  check_in(closed(1, static_cast<double>(patches)), "keep", static_cast<double>(options.keep));
  check_in(closed(0, 1), "scoreShare", options.score_share);
}

at::Tensor select_patches(const at::Tensor& images, const at::Tensor& given, const SelectionOptions& options,
                          const RunContext& context) {
  const c10::InferenceMode inference;
  const c10::DeviceGuard on_device(options.device);
  const Grid grid = checked_grid(images, options.patch_size);
  const int64_t n = images.size(0), patches = grid.patches();
  check(images, given, options, patches);
  const at::Tensor logits = with_prior(given, grid, options.prior, context);
  const std::vector<at::Tensor> chosen_from = candidates(logits, options.keep);
  // Of [L, ...] what belongs to the patches that may be chosen: the rest of the image is as if it were not
  // there, and ids count those patches until they are handed out.
  const auto of_candidates = [&](int64_t image, const at::Tensor& x) {
    return chosen_from.empty() ? x : x.index_select(0, chosen_from[static_cast<size_t>(image)]);
  };
  // The order of a patch's values decides how distances round, and with that the clusters of nearly equal
  // patches.
  const auto pixels_of = [&](const at::Tensor& some) {
    const at::Tensor normalized =
        some.scalar_type() == at::kByte ? normalize_pixels(some, options.mean, options.std) : some;
    return patchify_channels_last(normalized, options.patch_size);
  };
  // Rounded down as the authors do, in double precision.
  const auto by_score = static_cast<int64_t>(static_cast<double>(options.keep) * options.score_share);
  at::Tensor result = at::empty({n, options.keep}, at::kLong);
  const auto noise_of = [&](int64_t image, const std::optional<at::Tensor>& given, uint64_t stream) {
    return of_candidates(
        image,
        given ? (*given)[image]
              : at::empty({patches}, at::kFloat)
                    .uniform_(0, 1,
                              generator_for(
                                  mix_seed(options.seed, static_cast<uint64_t>(options.first_image + image)),
                                  stream)));
  };
  const bool diverse = by_score < options.keep;
  const auto poll = [&] { context.check(); };
  const Ties ties = options.compat ? Ties::kNone : Ties::kByNoise;
  const auto clusters_of = [&](int64_t image) {
    const at::Tensor noise = noise_of(image, options.density_noise, 0);
    const at::Tensor pixels = pixels_of(images.narrow(0, image, 1))[0];
    return density_peaks(of_candidates(image, pixels).unsqueeze(0).to(options.device),
                         noise.unsqueeze(0).to(options.device), options.keep, ties, poll);
  };
  // Threads find an image's clusters each; a device that work is queued on finds those of all images
  // together.
  std::vector<Clusters> found;
  if (diverse && backend_of(options.device.type()).asynchronous) {
    Clusters all;
    if (chosen_from.empty()) {
      std::vector<at::Tensor> noise;
      for (int64_t image = 0; image < n; ++image) noise.push_back(noise_of(image, options.density_noise, 0));
      all = density_peaks(pixels_of(images).to(options.device), at::stack(noise).to(options.device),
                          options.keep, ties, poll);
      all = {all.centres.to(at::kCPU), all.assignment.to(at::kCPU)};
    }
    for (int64_t image = 0; image < n; ++image) {
      Clusters one =
          chosen_from.empty() ? Clusters{all.centres[image], all.assignment[image]} : clusters_of(image);
      found.push_back({one.centres.to(at::kCPU), one.assignment.to(at::kCPU)});
    }
  }
  const auto select = [&](int64_t image) {
    context.check();
    std::vector<int64_t> kept = to_vector(of_candidates(image, logits[image])
                                              .argsort(/*stable=*/true, -1, /*descending=*/true)
                                              .slice(0, 0, by_score));
    if (options.compat) std::reverse(kept.begin(), kept.end());  // the authors sort by rising score
    if (diverse) {
      const Clusters clusters = found.empty() ? clusters_of(image) : found[static_cast<size_t>(image)];
      std::optional<at::Tensor> member_noise;
      if (options.compat) member_noise = noise_of(image, options.member_noise, 1);
      std::vector<char> is_kept(static_cast<size_t>(patches));
      for (const int64_t patch : kept) is_kept[static_cast<size_t>(patch)] = 1;
      for (const int64_t patch : representatives(clusters, is_kept, member_noise)) {
        if (static_cast<int64_t>(kept.size()) == options.keep) break;
        if (is_kept[static_cast<size_t>(patch)] == 0) kept.push_back(patch);
        is_kept[static_cast<size_t>(patch)] = 1;
      }
    }
    if (!options.compat) std::sort(kept.begin(), kept.end());
    int64_t* out = result.mutable_data_ptr<int64_t>() + image * options.keep;
    for (const int64_t patch : kept) {
      *out++ = chosen_from.empty() ? patch
                                   : chosen_from[static_cast<size_t>(image)].const_data_ptr<int64_t>()[patch];
    }
  };
  // Dozens of operators on small tensors: one thread takes an image through all of them.
  for_tasks(
      n, [] { return c10::InferenceMode(); },
      [&](int64_t image, const c10::InferenceMode&) { select(image); });
  return result;
}

}  // namespace ltrp
