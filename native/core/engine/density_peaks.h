// Clusters of an image's patches by density peaks (docs/method.md, 5).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>

namespace ltrp {

// Of n images of L patches, K clusters each.
struct Clusters {
  at::Tensor centres;     // [n, K] int64 patch ids, by falling centre score
  at::Tensor assignment;  // [n, L] int64 index into centres
};

// Which of two equally dense patches is the denser one. Equal patches differ in nothing but their noise, of
// which float32 keeps three bits: where none is denser, each seems to be far from all that are.
enum class Ties {
  kByNoise,  // the one with the larger noise, else the lower id
  kNone,     // neither, as in the authors' code
};

// Density peaks with k nearest neighbours (Du et al. 2016, as used by the authors): patches [n, L, C]
// float32, noise [n, L] in [0, 1). `poll` is called between pieces of work and may throw. On a CPU a piece is
// some ten milliseconds of one image, and takes up to 64 MiB beside three copies of its patches: distances
// are made a few rows at a time, never all L^2 of a large image.
Clusters density_peaks(const at::Tensor& patches, const at::Tensor& noise, int64_t count, Ties ties,
                       const std::function<void()>& poll);

// How good a centre each patch is, [L]: the K largest are the centres of K clusters. Patches [L, C] on a CPU,
// float64 where the order of nearly equal ones must not depend on rounding; noise [L].
at::Tensor density_peak_scores(const at::Tensor& patches, const at::Tensor& noise,
                               const std::function<void()>& poll);

}  // namespace ltrp
