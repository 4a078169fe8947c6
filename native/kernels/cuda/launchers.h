// What the host calls to queue a kernel: one function for each struct of kernels/arguments.h and
// kernels/cuda/arguments.h, whose pointers are the device's. Each returns at once; work on a stream runs in
// the order in which it was queued.
//
// Outputs may be float32, bfloat16, float16, float8 (e4m3) and int8; kUint8 is the CPU's. Products are
// float32, bfloat16 or int32. Every address and width is accepted; 16-byte boundaries and widths that are
// multiples of four are what is fast. Throws std::runtime_error for what cannot be served and when CUDA
// refuses a launch.
#pragma once

#include <cstdint>

#include "kernels/cuda/arguments.h"
#include "kernels/cuda/stream.h"

namespace ltrp::cuda {

// `rows`: packed rows.
void launch_layer_norm_difference(const args::LayerNormDifference& arguments, int64_t rows, Stream stream);
void launch_gelu_difference(const args::GeluDifference& arguments, int64_t rows, Stream stream);
void launch_round_rows(const args::RoundRows& arguments, int64_t rows, Stream stream);
void launch_add_rows(const args::AddRows& arguments, int64_t rows, Stream stream);
void launch_row_sums(const args::RowSums& arguments, int64_t rows, Stream stream);

// `rows`: rows of x, of u, or patches.
void launch_layer_norm_rows(const args::LayerNormRows& arguments, int64_t rows, Stream stream);
void launch_add_layer_norm(const args::AddLayerNorm& arguments, int64_t rows, Stream stream);
void launch_gelu_rows(const args::GeluRows& arguments, int64_t rows, Stream stream);
void launch_patch_rows(const args::PatchRows& arguments, int64_t rows, Stream stream);

// `variants`: how many there are to lay out.
void launch_split_heads(const args::SplitHeads& arguments, int64_t variants, Stream stream);

// All heads of all variants of arguments.set. Heads of up to kWidestHead values.
constexpr int64_t kWidestHead = 256;
void launch_attention(const args::Attention& arguments, Stream stream);

// The same on the tensor cores: operands as sums of two bfloat16 values, sums in float32. For precisions that
// round differences to bfloat16 or less. Heads of up to kWidestSplitHead values.
constexpr int64_t kWidestSplitHead = 128;
void launch_attention_split(const args::Attention& arguments, Stream stream);

// All heads of images [0, images) and all variants of arguments.set.
void launch_removal_attention(const args::RemovalAttention& arguments, int64_t images, Stream stream);

// std::invalid_argument for images without pixels.
void launch_normalize_pixels(const args::NormalizePixels& arguments, Stream stream);

// `rows`: patches. std::invalid_argument for images that are no whole patches.
void launch_pixel_patches(const args::PixelPatches& arguments, int64_t rows, Stream stream);

// The decoder's input: these throw std::invalid_argument for sizes that contradict each other.
void launch_decoder_input(const args::DecoderInput& arguments, int64_t variants, Stream stream);
void launch_starting_difference(const args::StartingDifference& arguments, int64_t variants, Stream stream);
void launch_delete_row(const args::DeleteRow& arguments, int64_t variants, Stream stream);
void launch_masked_tokens(const args::MaskedTokens& arguments, int64_t variants, Stream stream);

// Writes everything but `x` and `noise`, which it reads. std::invalid_argument for images of no or more than
// args::kMostSorted patches, for patches without values and for a number of clusters outside [1, patches].
void launch_density_peaks(const args::DensityPeaks& arguments, int64_t images, Stream stream);

// The loss of `lists` lists and, where `gradient` is given, its gradient. std::invalid_argument for lists of
// no or more than args::kMostSorted items, for no lists, and for a focus outside [1, items].
void launch_listwise_loss(const args::ListwiseLoss& arguments, int64_t lists, Stream stream);

// Writes everything but `squares` and `tolerance`, which it reads. std::invalid_argument for more than
// args::kMostSorted slots and for more rows than int32 counts.
void launch_large_rows(const args::LargeRows& arguments, int64_t variants, Stream stream);

}  // namespace ltrp::cuda
