// RandAugment (Cubuk et al. 2020) as timm has it with growing magnitudes ("rand-m9-mstd0.5-inc1"), on bytes
// and with Pillow's arithmetic (docs/method.md, 8).
#pragma once

#include <ATen/core/Generator.h>

#include <array>
#include <cstdint>
#include <vector>

#include "core/names.h"

namespace ltrp {

enum class PictureChange {
  kAutoContrast,
  kEqualize,
  kInvert,
  kRotate,
  kPosterize,
  kSolarize,
  kSolarizeAdd,
  kColour,
  kContrast,
  kBrightness,
  kSharpness,
  kShearX,
  kShearY,
  kTranslateX,
  kTranslateY,
};
template <>
struct Names<PictureChange> {
  static constexpr Named<PictureChange> all[] = {{PictureChange::kAutoContrast, "auto-contrast"},
                                                 {PictureChange::kEqualize, "equalize"},
                                                 {PictureChange::kInvert, "invert"},
                                                 {PictureChange::kRotate, "rotate"},
                                                 {PictureChange::kPosterize, "posterize"},
                                                 {PictureChange::kSolarize, "solarize"},
                                                 {PictureChange::kSolarizeAdd, "solarize-add"},
                                                 {PictureChange::kColour, "colour"},
                                                 {PictureChange::kContrast, "contrast"},
                                                 {PictureChange::kBrightness, "brightness"},
                                                 {PictureChange::kSharpness, "sharpness"},
                                                 {PictureChange::kShearX, "shear-x"},
                                                 {PictureChange::kShearY, "shear-y"},
                                                 {PictureChange::kTranslateX, "translate-x"},
                                                 {PictureChange::kTranslateY, "translate-y"}};
};

// Bytes [height, width, 3], in place.
struct BytePicture {
  uint8_t* pixels;
  int64_t height, width;
};

// What a magnitude in [0, 10] means for a change: degrees, bits that stay, a threshold, what is added, a
// factor, a slope, or a share of the side. `negative` turns those that have a direction; 0 for those without
// an argument.
double change_argument(PictureChange change, double magnitude, bool negative);

// Pixels from outside have the colour `fill`.
void apply_change(PictureChange change, double argument, const BytePicture& picture,
                  const std::array<uint8_t, 3>& fill);

// Twice: one of all changes, with probability 1/2, of a magnitude from N(magnitude, 1/2) cut to [0, 10].
// Posterizing leaves a bit at least: a black picture teaches nothing.
void rand_augment(double magnitude, const BytePicture& picture, const std::array<uint8_t, 3>& fill,
                  at::Generator generator);

}  // namespace ltrp
