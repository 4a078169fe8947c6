// Whole operators out of LibTorch's own. They work on every device and are differentiable: other backends
// fall back to them.
#pragma once

#include "kernels/clustering.h"
#include "kernels/linear.h"
#include "kernels/variants.h"

namespace ltrp::generic {

at::Tensor decoder_input(const DecoderTokens& tokens, const at::Tensor& embedded);
at::Tensor decoder_input_without(const DecoderTokens& tokens, const RemovedTokens& removed,
                                 const at::Tensor& embedded);
at::Tensor starting_difference(const DecoderTokens& tokens, const StartingRows& rows);
at::Tensor delete_rows(const at::Tensor& x, const RemovedTokens& removed);
at::Tensor masked_tokens(const at::Tensor& visible, int64_t patches, const RemovedTokens* removed);
Clusters density_peaks(const at::Tensor& patches, const at::Tensor& noise, int64_t count,
                       const std::function<void()>& poll);

}  // namespace ltrp::generic

namespace ltrp::cpu {

at::Tensor normalize_pixels(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std);
RoundedRows byte_patch_rows(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std,
                            int64_t patch_size, const at::Tensor& ids, Precision precision);

}  // namespace ltrp::cpu
