#include "core/selectors/selectors.h"

#include <ATen/ATen.h>

#include "core/check.h"

namespace ltrp {
namespace {

const Selector& selector_named(const std::string& name) {
  std::string names;
  for (const Selector& selector : kSelectors) {
    if (name == selector.name) return selector;
    names += std::string(names.empty() ? "'" : ", '") + selector.name + "'";
  }
  invalid("selector must be one of " + names + "; got \"" + name + "\".");
}

}  // namespace

Grid check_selector(const at::Tensor& images, const SelectorOptions& options) {
  const Selector& selector = selector_named(options.selector);
  const bool bytes = images.scalar_type() == at::kByte;
  const int64_t height = images.size(bytes ? 1 : 2), width = images.size(bytes ? 2 : 3);
  const int64_t patch = options.patch_size;
  check_in(closed(1, 1 << 16), "patchSize", static_cast<double>(patch));
  if (height % patch != 0 || width % patch != 0) {
    invalid("patchSize must divide the images' " + std::to_string(height) + " x " + std::to_string(width) +
            " pixels; got " + std::to_string(patch) + ".");
  }
  const Grid grid{height / patch, width / patch};
  if (options.keep != 0 || selector.needs_keep) {
    check_in(closed(1, static_cast<double>(grid.patches())), "keep", static_cast<double>(options.keep));
  }
  return grid;
}

at::Tensor selector_scores(const at::Tensor& images, const SelectorOptions& options,
                           const RunContext& context) {
  const Grid grid = check_selector(images, options);
  const Selector& selector = selector_named(options.selector);
  const auto colours = [](const std::array<double, 3>& values) {
    return at::tensor(at::ArrayRef<double>(values), at::kDouble).view({3, 1, 1});
  };
  const int64_t n = images.size(0);
  const at::Tensor scores = at::empty({n, grid.patches()}, at::kFloat);
  for (int64_t i = 0; i < n; ++i) {
    context.check();
    const at::Tensor image = images[i].to(at::kDouble);
    const at::Tensor pixels = images.scalar_type() == at::kByte
                                  ? image.permute({2, 0, 1}) / 255
                                  : image * colours(options.std) + colours(options.mean);
    scores[i].copy_(selector.score({pixels, grid, options.patch_size, options.keep, options.seed, i}));
    context.progress(i + 1, n);
  }
  return scores;
}

at::Tensor highest(const at::Tensor& scores, int64_t keep) {
  const at::Tensor order = scores.argsort(/*stable=*/true, /*dim=*/1, /*descending=*/true);
  return std::get<0>(order.slice(1, 0, keep).sort(1));
}

}  // namespace ltrp
