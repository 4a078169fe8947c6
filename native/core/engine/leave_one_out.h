// Pseudo-scores: how much the reconstruction moves when one visible patch is removed (docs/method.md,
// 1).
#pragma once

#include <ATen/core/Tensor.h>

#include "core/engine/score_options.h"
#include "core/engine/teacher.h"
#include "core/run_context.h"

namespace ltrp {

// images [n, 3, H, W] normalised (or bytes [n, H, W, 3]), visible [n, V] int64 ascending -> scores [n, V] in
// the model's dtype; larger is denser. l1, l2: mean absolute / squared difference over masked patches and
// pixel values, in normalised pixels (squared). reach: the geometric mean over masked patches of each one's
// mean absolute difference. psnr, ssim: of the whole reconstruction against the anchor,
// then rescaled over the whole batch (scores_of): these two depend on the batch. Progress counts variants.
// Error(kNotFinite) where a value is not finite.
at::Tensor leave_one_out_scores(const Teacher& teacher, const at::Tensor& images, const at::Tensor& visible,
                                const LeaveOneOutOptions& options, const RunContext& context);

// The metrics before that (psnr in dB, ssim in [-1, 1]); for l1 and l2 the same as the scores. On a CPU an
// image's values have the same bits whatever the other images, the memory budget and the number of threads
// are; they may be NaN or infinite.
at::Tensor leave_one_out_metric(const Teacher& teacher, const at::Tensor& images, const at::Tensor& visible,
                                const LeaveOneOutOptions& options, const RunContext& context);

// l1, l2, reach: the metric itself. psnr, ssim: 1 - (x - min) / (max - min) over all values, zeros where
// these are equal.
at::Tensor scores_of(const at::Tensor& metric, Metric kind);

}  // namespace ltrp
