#include "core/training/augment.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/random.h"
#include "core/training/rand_augment.h"
#include "kernels/pixels.h"

namespace ltrp {

namespace {

// Beside those of the trainers.
constexpr uint64_t kChangeStream = 17;

void check_pictures(std::span<const Picture> pictures) {
  for (size_t i = 0; i < pictures.size(); ++i) {
    if (pictures[i].pixels == nullptr || pictures[i].height < 1 || pictures[i].width < 1) {
      throw Error(codes::kInvalidArgument, "Picture " + std::to_string(i) + " of the batch is empty.");
    }
    if (!pictures[i].scored) continue;
    const CropBox& box = pictures[i].scored->box;
    if (box.top < 0 || box.left < 0 || box.height < 1 || box.width < 1 ||
        box.top > pictures[i].height - box.height || box.left > pictures[i].width - box.width) {
      throw Error(codes::kInvalidArgument,
                  "The scored crop of picture " + std::to_string(i) + " must lie within its " +
                      std::to_string(pictures[i].width) + " x " + std::to_string(pictures[i].height) +
                      " pixels; got " + std::to_string(box.width) + " x " + std::to_string(box.height) +
                      " at (" + std::to_string(box.left) + ", " + std::to_string(box.top) + ").");
    }
  }
}

// `change` is called for the bytes of each crop with its place, if there is one.
at::Tensor resize_boxes(std::span<const Picture> pictures, const std::vector<CropBox>& boxes,
                        const std::vector<char>& flips, int64_t out_height, int64_t out_width,
                        at::ArrayRef<double> mean, at::ArrayRef<double> std,
                        const std::function<void(const BytePicture&, size_t)>& change = {}) {
  const auto n = static_cast<int64_t>(pictures.size());
  at::Tensor bytes = at::empty({n, out_height, out_width, 3}, at::kByte);
  uint8_t* out = bytes.mutable_data_ptr<uint8_t>();
  at::parallel_for(0, n, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const auto slot = static_cast<size_t>(i);
      uint8_t* const crop = out + i * out_height * out_width * 3;
      crop_resize_bicubic(pictures[slot].pixels, pictures[slot].height, pictures[slot].width, boxes[slot],
                          out_height, out_width, flips[slot] != 0, crop);
      if (change) change({crop, out_height, out_width}, slot);
    }
  });
  return normalize_pixels(bytes, mean, std);
}

}  // namespace

CropBox random_crop_box(int64_t height, int64_t width, const CropOptions& options, at::Generator& generator,
                        bool& flip) {
  constexpr int kTries = 10;
  constexpr double kMinAspect = 3.0 / 4.0, kMaxAspect = 4.0 / 3.0;
  // All numbers are drawn at once so that a rejected box does not shift what comes after.
  const at::Tensor draws = at::empty({kTries * 4 + 1}, at::kDouble).uniform_(0, 1, generator);
  const double* u = draws.const_data_ptr<double>();
  flip = options.flip && u[kTries * 4] < 0.5;
  const double area = static_cast<double>(height) * static_cast<double>(width);
  for (int i = 0; i < kTries; ++i, u += 4) {
    const double target = area * (options.scale_min + u[0] * (options.scale_max - options.scale_min));
    const double aspect =
        std::exp(std::log(kMinAspect) + u[1] * (std::log(kMaxAspect) - std::log(kMinAspect)));
    const auto w = static_cast<int64_t>(std::llround(std::sqrt(target * aspect)));
    const auto h = static_cast<int64_t>(std::llround(std::sqrt(target / aspect)));
    if (w < 1 || h < 1 || w > width || h > height) continue;
    const auto top = static_cast<int64_t>(u[2] * static_cast<double>(height - h + 1));
    const auto left = static_cast<int64_t>(u[3] * static_cast<double>(width - w + 1));
    return {std::min(top, height - h), std::min(left, width - w), h, w};
  }
  const double ratio = static_cast<double>(width) / static_cast<double>(height);
  int64_t w = width, h = height;
  if (ratio < kMinAspect)
    h = std::clamp<int64_t>(std::llround(static_cast<double>(width) / kMinAspect), 1, height);
  if (ratio > kMaxAspect)
    w = std::clamp<int64_t>(std::llround(static_cast<double>(height) * kMaxAspect), 1, width);
  return {(height - h) / 2, (width - w) / 2, h, w};
}

CropBox centre_crop_box(int64_t height, int64_t width) {
  const int64_t side = std::max<int64_t>(1, std::min(height, width) * 224 / 256);
  return {(height - side) / 2, (width - side) / 2, side, side};
}

at::Tensor augment(std::span<const Picture> pictures, int64_t out_height, int64_t out_width,
                   const CropOptions& options, at::ArrayRef<double> mean, at::ArrayRef<double> std,
                   uint64_t seed, uint64_t first_stream) {
  check_pictures(pictures);
  std::vector<CropBox> boxes(pictures.size());
  std::vector<char> flips(pictures.size());
  for (size_t i = 0; i < pictures.size(); ++i) {
    if (const auto& scored = pictures[i].scored) {
      boxes[i] = scored->box;
      flips[i] = scored->flip ? 1 : 0;
      continue;
    }
    at::Generator generator = generator_for(seed, first_stream + i);
    bool flip = false;
    boxes[i] = random_crop_box(pictures[i].height, pictures[i].width, options, generator, flip);
    flips[i] = flip ? 1 : 0;
  }
  if (options.rand_augment <= 0)
    return resize_boxes(pictures, boxes, flips, out_height, out_width, mean, std);
  std::array<uint8_t, 3> fill{};
  for (size_t i = 0; i < 3; ++i) fill[i] = static_cast<uint8_t>(std::llround(mean[i] * 255));
  return resize_boxes(pictures, boxes, flips, out_height, out_width, mean, std,
                      [&](const BytePicture& crop, size_t i) {
                        rand_augment(options.rand_augment, crop, fill,
                                     generator_for(mix_seed(seed, kChangeStream), first_stream + i));
                      });
}

at::Tensor evaluation_crops(std::span<const Picture> pictures, EvaluationCrop crop, int64_t out_height,
                            int64_t out_width, at::ArrayRef<double> mean, at::ArrayRef<double> std) {
  check_pictures(pictures);
  std::vector<CropBox> boxes(pictures.size());
  std::vector<char> flips(pictures.size(), 0);
  for (size_t i = 0; i < pictures.size(); ++i) {
    const auto& scored = pictures[i].scored;
    const int64_t height = pictures[i].height, width = pictures[i].width;
    boxes[i] = scored                            ? scored->box
               : crop == EvaluationCrop::kCentre ? centre_crop_box(height, width)
                                                 : CropBox{0, 0, height, width};
    flips[i] = scored && scored->flip ? 1 : 0;
  }
  return resize_boxes(pictures, boxes, flips, out_height, out_width, mean, std);
}

}  // namespace ltrp
