// What the decoder reads for images and for their variants, each of which lacks one visible patch. Token t is
// patch t - 1, token 0 CLS; a variant's row is deleted, not masked, so that L of the L + 1 tokens remain.
// g images, m variants, V visible of L patches, decoder width E.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace ltrp {

// The images' side of a decoder's input.
struct DecoderTokens {
  at::Tensor visible;     // [g, V] int64, ascending patch ids
  at::Tensor mask_token;  // [1, 1, E]
  at::Tensor positions;   // [1, L + 1, E]
};

// Which token each variant lacks; all [m] int64.
struct RemovedTokens {
  at::Tensor image;
  at::Tensor slot;   // among the image's visible patches
  at::Tensor token;  // patch + 1
};

// What variants that differ in the encoder start with.
struct StartingRows {
  at::Tensor image;       // [m] int64
  at::Tensor slot;        // [m] int64: the removed one among the image's visible patches; undefined: none
  at::Tensor difference;  // [m * (V + 1), E]: of the embedded latents, CLS first
  at::Tensor embedded;    // [g, V + 1, E]: the anchor's, where the mask token takes the removed one's place
};

// embedded [g, V + 1, E], CLS first -> [g, L + 1, E]: unshuffled over mask tokens, positions added.
// Differentiable.
at::Tensor decoder_input(const DecoderTokens& tokens, const at::Tensor& embedded);

// The same for variants whose encoder lacked the patch too: embedded [m, V, E] -> [m, L, E].
at::Tensor decoder_input_without(const DecoderTokens& tokens, const RemovedTokens& removed,
                                 const at::Tensor& embedded);

// How a variant's decoder input differs from its image's: [m * (L + 1), E]. Zeros in the rows of mask tokens
// and, without `embedded`, in that of the removed token.
at::Tensor starting_difference(const DecoderTokens& tokens, const StartingRows& rows);

// x [g, T, W] -> [m, T - 1, W]: the image's rows without that of the removed token.
at::Tensor delete_rows(const at::Tensor& x, const RemovedTokens& removed);

// The patches that the variants still see: visible [g, V] -> [m, V - 1].
at::Tensor visible_without(const at::Tensor& visible, const RemovedTokens& removed);

// Token ids of the patches that are not visible [g, V] int64, ascending: [g, L - V] int64, or int32 on
// devices whose kernels read that. With `removed` by variant, [m, L - V], the ids behind the gap one lower.
at::Tensor masked_tokens(const at::Tensor& visible, int64_t patches, const RemovedTokens* removed = nullptr);

}  // namespace ltrp
