#include "binding/keep_list.h"

#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "binding/arguments.h"
#include "binding/call.h"
#include "binding/results.h"
#include "core/engine/keep_list.h"
#include "core/engine/masking.h"
#include "core/engine/regions.h"

namespace ltrp::binding {
namespace {

int64_t integer_in(const Options& options, const char* key, int64_t low, int64_t high,
                   std::optional<int64_t> fallback = {}) {
  const int64_t value = options.integer(key, fallback);
  check_in(closed(static_cast<double>(low), static_cast<double>(high)), options.path(key),
           static_cast<double>(value));
  return value;
}

constexpr int64_t kMostPixels = 1 << 20;  // of a side

// The whole picture without the field. `input`: [height, width] that a crop must have, if it must.
View view_option(const Options& options, double height, double width,
                 const std::vector<int64_t>& input = {}) {
  if (!options.has("view")) return {0, 0, width, height};
  const std::string name = options.path("view");
  const Options given(options.get("view"), name);
  View view;
  if (given.has("shortSide")) {
    const CentreCrop crop{integer_in(given, "shortSide", 1, kMostPixels),
                          integer_in(given, "height", 1, kMostPixels),
                          integer_in(given, "width", 1, kMostPixels), given.one_of<CropRounding>("rounding")};
    if (!input.empty() && (crop.height != input[0] || crop.width != input[1])) {
      invalid(name + " must be the size of the input, " + std::to_string(input[0]) + " x " +
              std::to_string(input[1]) + "; got " + std::to_string(crop.height) + " x " +
              std::to_string(crop.width) + ".");
    }
    view = view_of(crop, height, width);
  } else {
    view = {given.number("left"), given.number("top"), given.number("width"), given.number("height")};
  }
  validate(view, name);
  return view;
}

// Exactly one of the three is there: lib/keep-list.ts.
EncoderGrid encoder_of(const Options& target, double height, double width) {
  EncoderGrid encoder;
  if (target.has("shape")) {
    const auto shape = shape_argument(target.get("shape"), "target.shape", 2, "[…, height, width]");
    const bool masked = target.has("pixelMask");
    encoder.view = view_option(target, height, width, masked ? std::vector<int64_t>() : shape);
    const int64_t patch = integer_in(target, "patchSize", 1, std::min(shape[0], shape[1]));
    encoder.patches = {shape[0] / patch, shape[1] / patch};
    encoder.input_height = static_cast<double>(shape[0]);
    encoder.input_width = static_cast<double>(shape[1]);
    encoder.patch_size = static_cast<double>(patch);
    if (masked)
      encoder.pixel_mask =
          byte_tensor(target.get("pixelMask"), "target.pixelMask", shape[0] * shape[1]).view(shape);
  } else {
    const bool merged = target.has("imageGridThw");
    const char* key = merged ? "imageGridThw" : "spatialShape";
    const auto grid = shape_argument(target.get(key), target.path(key), merged ? 3 : 2,
                                     merged ? "[frames, rows, columns]" : "[rows, columns]");
    if (merged && grid[0] != 1)
      invalid("target.imageGridThw must be of a picture, [1, rows, columns]; got " + std::to_string(grid[0]) +
              " frames: rank each frame of a video.");
    encoder.view = view_option(target, height, width);
    encoder.patches = {grid[grid.size() - 2], grid.back()};
    encoder.input_height = static_cast<double>(encoder.patches.rows);
    encoder.input_width = static_cast<double>(encoder.patches.columns);
    encoder.patch_size = 1;
    if (merged) encoder.merge = target.integer("merge", 2);
  }
  validate(encoder);
  const int64_t patches = encoder.patches.patches();
  encoder.tokens = target.integer("tokens", patches);
  const bool padded = target.has("spatialShape");
  if (encoder.tokens < patches || (!padded && encoder.tokens > patches) || encoder.tokens > kMostCells) {
    invalid("target.tokens must be " + std::string(padded ? "at least " : "") +
            "the number of patches in the grid, " + std::to_string(patches) + "; got " +
            std::to_string(encoder.tokens) + ".");
  }
  return encoder;
}

// What `ranking` says of the picture: logits [rows, columns] and its sides in pixels.
struct Ranked {
  at::Tensor logits;
  int64_t height = 0, width = 0;
};

Ranked ranked_picture(const Napi::Value& logits, const Options& ranking) {
  const Options grid(ranking.get("grid"), "ranking.grid");
  const int64_t rows = integer_in(grid, "rows", 1, kMostCells);
  const int64_t columns = integer_in(grid, "columns", 1, kMostCells / rows);
  constexpr auto most = int64_t{1} << 31;
  return {float_tensor(logits, "ranking.logits", {rows, columns}, /*finite=*/true,
                       /*or_minus_infinity=*/true),
          integer_in(ranking, "height", 1, most), integer_in(ranking, "width", 1, most)};
}

}  // namespace

Napi::Value keep_for(const Napi::CallbackInfo& info) {
  return enqueue(info, [&](Napi::ObjectReference& kept) -> Work {
    const Options ranking(info[2], "ranking"), target(info[3], "target"), options(info[4]);
    const Ranked picture = ranked_picture(info[1], ranking);
    const at::Tensor logits = picture.logits;
    const auto height = static_cast<double>(picture.height), width = static_cast<double>(picture.width);
    const View view = view_option(ranking, height, width);
    const EncoderGrid encoder = encoder_of(target, height, width);
    const int64_t cells = encoder.cells().patches();
    const int64_t keep = options.has("keepRatio") ? kept_patches(cells, options.number("keepRatio"))
                                                  : integer_in(options, "keep", 1, cells);
    const int64_t ids = keep * encoder.merge * encoder.merge;
    Result result(info.Env(), kept);
    const KeepList list{result.float64("values", {cells}), result.int32("cells", {keep}),
                        result.int32("ids", {ids}), result.int32("positions", {ids, 2}),
                        result.int32("mask", {encoder.tokens})};
    result.shape({encoder.cells().rows, encoder.cells().columns});
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      ltrp::keep_list(logits, view, encoder, list, context);
      return {};
    };
  });
}

Napi::Value dense_regions(const Napi::CallbackInfo& info) {
  return enqueue(info, [&]() -> Work {
    const Options ranking(info[2], "ranking"), given(info[3]);
    const Ranked picture = ranked_picture(info[1], ranking);
    RegionOptions options;
    options.count = given.integer("count", options.count);
    options.keep_ratio = given.number("keepRatio", options.keep_ratio);
    options.padding = given.number("padding", options.padding);
    if (given.has("aspect")) options.aspect = given.number("aspect");
    validate(options);
    return [=](const RunContext& context) -> MakeResult {
      c10::InferenceMode guard;
      const auto regions =
          ltrp::dense_regions(picture.logits, picture.height, picture.width, options, context);
      return [regions](Napi::Env env, Napi::Object) -> Napi::Value {
        Napi::Array result = Napi::Array::New(env, regions.size());
        for (size_t i = 0; i < regions.size(); ++i) {
          Napi::Object region = Napi::Object::New(env);
          region.Set("box", shape_array(env, {regions[i].box.data(), regions[i].box.size()}));
          region.Set("weight", regions[i].weight);
          result[static_cast<uint32_t>(i)] = region;
        }
        return result;
      };
    };
  });
}

}  // namespace ltrp::binding
