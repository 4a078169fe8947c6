// Selectors against the authors' and our goldens.
#include "core/selectors/selectors.h"

#include <ATen/ATen.h>

#include "checkpoint_support.h"
#include "core/checkpoint/safetensors.h"
#include "test/core_support.h"

namespace ltrp::test {
namespace {

SelectorOptions options_of(const char* selector, int64_t keep = 0) {
  return {selector, 16, {0.485, 0.456, 0.406}, {0.229, 0.224, 0.225}, keep, 0};
}

TEST_CASE("goldens: maps of pixels, the centre and even grids") {
  const auto golden = golden_folder();
  if (!golden) return;
  const SafetensorsFile expected = read_safetensors((*golden / "downstream/selectors.safetensors").string());
  const at::Tensor images =
      read_safetensors((*golden / "full/expected.safetensors").string()).tensors.at("pixel_values");
  for (const char* name : {"variance", "gradient", "contrast", "centre"}) {
    CAPTURE(name);
    const at::Tensor map = expected.tensors.at(std::string("map_") + name);
    CHECK(largest_difference(selector_scores(images, options_of(name), {}).to(at::kDouble), map) <
          1e-6 * std::max(1.0, map.abs().max().item<double>()));
  }
  for (const int64_t keep : {1, 19, 49, 98, 147}) {
    CAPTURE(keep);
    const at::Tensor scores = selector_scores(images, options_of("grid", keep), {});
    const at::Tensor chosen = expected.tensors.at("grid_" + std::to_string(keep)).view({1, keep});
    CHECK(at::equal(highest(scores, keep).narrow(0, 2, 1), chosen));
  }
}

TEST_CASE("noise depends on the seed and the image's place alone") {
  const at::Tensor images = random_tensor({3, 3, 32, 48}, 1, at::kFloat);
  SelectorOptions options = options_of("random");
  const at::Tensor all = selector_scores(images, options, {});
  CHECK(at::equal(selector_scores(images.narrow(0, 0, 2), options, {}), all.narrow(0, 0, 2)));
  CHECK(!at::equal(all[0], all[1]));
  options.seed = 1;
  CHECK(!at::equal(selector_scores(images, options, {}), all));
}

TEST_CASE("unknown selectors, sizes that do not divide, and a grid of nobody knows how many are refused") {
  const at::Tensor images = random_tensor({1, 3, 32, 48}, 1, at::kFloat);
  const auto refused = [&](const SelectorOptions& options, const char* part) {
    check_refused(codes::kInvalidArgument, part, [&] { selector_scores(images, options, {}); });
  };
  refused(options_of("best"), "selector must be one of 'centre', 'contrast'");
  refused(options_of("grid"), "keep must be in [1, 6]; got 0");
  refused(options_of("random", 7), "keep must be in [1, 6]; got 7");
  SelectorOptions odd = options_of("random");
  odd.patch_size = 10;
  refused(odd, "patchSize must divide the images' 32 x 48 pixels; got 10");
}

}  // namespace
}  // namespace ltrp::test
