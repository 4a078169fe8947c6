// How badly a masked autoencoder predicts patches that it does not see (docs/method.md, 1).
#pragma once

#include <ATen/core/Tensor.h>

#include "core/model/mae.h"
#include "core/run_context.h"

namespace ltrp {

// images [n, 3, H, W] normalised (or bytes [n, H, W, 3]), visible [n, V] int64 ascending -> [n, L] float64 on
// the host: of each hidden patch the mean absolute difference between its edges and those predicted, where
// edges are the differences of horizontal and of vertical neighbours within the patch, in target space; NaN
// at visible patches. Brightness that is predicted wrongly does not count: contrast and outlines do. An
// image's values have the same bits in any batch. Error(kCheckpointContent) without a decoder,
// Error(kCancelled).
at::Tensor edge_surprise(const MaskedAutoencoder& model, const at::Tensor& images, const at::Tensor& visible,
                         const RunContext& context);

}  // namespace ltrp
