// From decoded pictures to training input: random resized crops and flips, centre crops for evaluation.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>

#include "core/training/trainer.h"
#include "kernels/resample.h"

namespace ltrp {

struct CropOptions {
  double scale_min = 0.2;  // share of the picture's area
  double scale_max = 1.0;
  bool flip = true;
  double rand_augment = 0;  // magnitude of rand_augment(); 0: none
};

// A box of random area and aspect (3/4 to 4/3, log-uniform) that fits the picture, as torchvision's
// RandomResizedCrop draws it: ten tries, then the largest centred box of an allowed aspect. `flip` receives a
// fair coin, drawn in any case.
CropBox random_crop_box(int64_t height, int64_t width, const CropOptions& options, at::Generator& generator,
                        bool& flip);

// The centred square of 224/256 of the short side (the usual evaluation crop at any resolution).
CropBox centre_crop_box(int64_t height, int64_t width);

// Pictures -> normalised [n, 3, out_height, out_width] float32; picture i's crop is its `scored` one, or
// depends on (seed, first_stream + i) only, and so does what changes its colours and form.
at::Tensor augment(std::span<const Picture> pictures, int64_t out_height, int64_t out_width,
                   const CropOptions& options, at::ArrayRef<double> mean, at::ArrayRef<double> std,
                   uint64_t seed, uint64_t first_stream);

// What evaluation sees of a picture.
enum class EvaluationCrop {
  kCentre,  // centre_crop_box()
  kWhole,   // all of it, squeezed: a crop would cut labelled objects away
};

// Those of the pictures, or their `scored` crops, normalised.
at::Tensor evaluation_crops(std::span<const Picture> pictures, EvaluationCrop crop, int64_t out_height,
                            int64_t out_width, at::ArrayRef<double> mean, at::ArrayRef<double> std);

}  // namespace ltrp
