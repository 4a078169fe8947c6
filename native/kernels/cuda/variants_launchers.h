// The decoder's input for the anchor and for variants: see the arguments' own comments.
#pragma once

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/stream.h"

namespace ltrp::cuda {

// All of these throw std::invalid_argument for sizes that contradict each other.
void launch_decoder_input(const args::DecoderInput& arguments, int64_t variants, Stream stream);
void launch_starting_difference(const args::StartingDifference& arguments, int64_t variants, Stream stream);
void launch_delete_row(const args::DeleteRow& arguments, int64_t variants, Stream stream);
void launch_masked_tokens(const args::MaskedTokens& arguments, int64_t variants, Stream stream);

}  // namespace ltrp::cuda
