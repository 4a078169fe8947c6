// Which patches are visible (docs/method.md, 1).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ltrp {

// V = int(L * (1 - mask_ratio)) in double precision. Error(kInvalidArgument) unless 0 < V < L.
int64_t visible_count(int64_t patches, double mask_ratio);

// Patches to keep: L * keep_ratio, rounded, at least 1. Error(kInvalidArgument) unless keep_ratio is in (0,
// 1].
int64_t kept_patches(int64_t patches, double keep_ratio);

// Uniform noise [n, L] float32 from `seed`; image i's row depends on (seed, first_image + i) only, not on the
// batch it comes in.
at::Tensor masking_noise(int64_t images, int64_t patches, uint64_t seed, int64_t first_image = 0);

// Ids of the V smallest of noise [n, L], ascending per row: [n, V] int64.
at::Tensor visible_from_noise(const at::Tensor& noise, int64_t visible);

// The other patches, ascending: visible [n, V] -> [n, L - V] int64.
at::Tensor masked_from_visible(const at::Tensor& visible, int64_t patches);

// Checks ids [n, V]: int64, ascending, distinct, in [0, L), 0 < V < L, or V = L where all are allowed.
// Error(kInvalidArgument).
void check_visible(const at::Tensor& visible, int64_t images, int64_t patches, bool all_allowed = false);

// Sorts ids [n, K] int64 of the patches to keep, which may come in any order, in place.
// Error(kInvalidArgument) unless they are distinct for each image, in [0, L), and 0 < K.
void sort_keep(const at::Tensor& keep, int64_t images, int64_t patches);

}  // namespace ltrp
