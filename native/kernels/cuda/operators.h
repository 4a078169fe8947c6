// Whole operators on the device: see kernels/pixels.h, variants.h, clustering.h and list_loss.h.
#pragma once

#include "kernels/clustering.h"
#include "kernels/linear.h"
#include "kernels/list_loss.h"
#include "kernels/variants.h"

namespace ltrp::cuda {

at::Tensor normalize_pixels(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std);
RoundedRows byte_patch_rows(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std,
                            int64_t patch_size, const at::Tensor& ids, Precision precision);

// Where gradients are wanted, or values are no float32, LibTorch's operators do these.
at::Tensor decoder_input(const DecoderTokens& tokens, const at::Tensor& embedded);
at::Tensor decoder_input_without(const DecoderTokens& tokens, const RemovedTokens& removed,
                                 const at::Tensor& embedded);
at::Tensor starting_difference(const DecoderTokens& tokens, const StartingRows& rows);
at::Tensor delete_rows(const at::Tensor& x, const RemovedTokens& removed);
at::Tensor masked_tokens(const at::Tensor& visible, int64_t patches, const RemovedTokens* removed);

// Images of more than 4096 patches are LibTorch's.
Clusters density_peaks(const at::Tensor& patches, const at::Tensor& noise, int64_t count,
                       const std::function<void()>& poll);
// False for lists of more than 4096 items and for other types than float32.
bool list_loss(const ListLossTask& task, ListLossResult& result);

}  // namespace ltrp::cuda
