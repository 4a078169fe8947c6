#include "core/model/decoder_input.h"

#include "core/model/transformer.h"
#include "kernels/tensor_arguments.h"

namespace ltrp {

namespace {

// Ids of [0, count) without `removed`, per variant: removed [m] -> [m, count - 1].
at::Tensor ids_without(const at::Tensor& removed, int64_t count) {
  const at::Tensor slots = at::arange(count - 1, removed.options());
  return slots + slots.ge(removed.unsqueeze(1)).to(at::kLong);
}

// ---- In LibTorch's operators: on every device, and differentiable ----

at::Tensor assembled(const DecoderTokens& tokens, const at::Tensor& embedded) {
  const int64_t n = embedded.size(0), width = embedded.size(2), patches = tokens.positions.size(1) - 1;
  // Under autocast the projection is narrower than the mask token: everything meets in the embedded dtype.
  const at::Tensor rows =
      tokens.mask_token.to(embedded.scalar_type())
          .expand({n, patches, width})
          .scatter(1, tokens.visible.unsqueeze(-1).expand({-1, -1, width}), embedded.slice(1, 1));
  return at::cat({embedded.slice(1, 0, 1), rows}, 1) + tokens.positions;
}

at::Tensor assembled_without(const DecoderTokens& tokens, const RemovedTokens& removed,
                             const at::Tensor& embedded) {
  DecoderTokens remaining = tokens;
  remaining.visible = visible_without(tokens.visible, removed);
  return gather_tokens(assembled(remaining, embedded), ids_without(removed.token, tokens.positions.size(1)));
}

at::Tensor assembled_difference(const DecoderTokens& tokens, const StartingRows& rows) {
  const int64_t m = rows.image.size(0), count = tokens.positions.size(1);
  // Latent 0 is CLS, latent s + 1 the s-th visible token: row ids [m, latents].
  const at::Tensor start = at::arange(m, tokens.visible.options()).unsqueeze(1) * count;
  const at::Tensor ids =
      at::constant_pad_nd(tokens.visible.index_select(0, rows.image) + 1, {1, 0}, 0) + start;
  at::Tensor d = at::zeros({m * count, rows.difference.size(1)}, rows.difference.options());
  d.index_copy_(0, ids.reshape({-1}), rows.difference);
  if (!rows.slot.defined()) return d;
  const at::Tensor removed = tokens.visible.index({rows.image, rows.slot}) + 1 + start.squeeze(1);
  if (rows.embedded.defined()) {
    const at::Tensor embedded = rows.embedded.index({rows.image, rows.slot + 1});
    d.index_copy_(0, removed, tokens.mask_token.view({1, -1}) - embedded);
  } else {
    d.index_fill_(0, removed, 0);
  }
  return d;
}

at::Tensor listed_masked_tokens(const at::Tensor& visible, int64_t patches, const RemovedTokens* removed) {
  at::Tensor is_visible = at::zeros({visible.size(0), patches}, visible.options());
  is_visible.scatter_(1, visible, 1);
  const at::Tensor ids =
      is_visible.argsort(/*stable=*/true, 1, false).slice(1, 0, patches - visible.size(1)) + 1;
  if (removed == nullptr) return ids;
  // The tokens behind the gap have moved up by one.
  const at::Tensor of_variant = ids.index_select(0, removed->image);
  return of_variant - of_variant.gt(removed->token.unsqueeze(1)).to(at::kLong);
}

// ---- By the device's kernels ----

// Null where LibTorch's operators are to be used: no kernels, gradients wanted, or values no float32.
const SpecialKernels* kernels_for(std::initializer_list<at::Tensor> values) {
  for (const at::Tensor& x : values) {
    if (x.defined() && (x.scalar_type() != at::kFloat || x.requires_grad())) return nullptr;
  }
  return backend_of(*values.begin()).special;
}

at::Tensor int32(const at::Tensor& x) { return x.to(at::kInt).contiguous(); }

// `embedded` by image, or with `image` and `slot` by variant and encoded without that patch; `tokens` of
// rows.
at::Tensor kernel_input(const SpecialKernels& kernels, const DecoderTokens& tokens,
                        const at::Tensor& embedded, const at::Tensor& image, const at::Tensor& slot) {
  const at::Tensor rows = embedded.contiguous(), visible = tokens.visible.contiguous();
  args::DecoderInput arguments;
  arguments.patches = tokens.positions.size(1) - 1;
  arguments.visible_per_image = visible.size(1);
  arguments.width = rows.size(2);
  arguments.image = ints(image);
  arguments.removed = ints(slot);
  arguments.visible = longs(visible);
  arguments.embedded = floats(rows);
  arguments.mask_token = floats(tokens.mask_token);
  arguments.positions = floats(tokens.positions);
  const int64_t count = arguments.patches + (slot.defined() ? 0 : 1);
  at::Tensor result = at::empty({rows.size(0), count, arguments.width}, rows.options());
  arguments.out = result.mutable_data_ptr<float>();
  kernels.decoder_input(arguments, rows.size(0));
  return result;
}

}  // namespace

at::Tensor visible_without(const at::Tensor& visible, const RemovedTokens& removed) {
  return visible.index_select(0, removed.image).gather(1, ids_without(removed.slot, visible.size(1)));
}

at::Tensor decoder_input(const DecoderTokens& tokens, const at::Tensor& embedded) {
  const SpecialKernels* kernels = kernels_for({embedded, tokens.mask_token, tokens.positions});
  return kernels == nullptr ? assembled(tokens, embedded) : kernel_input(*kernels, tokens, embedded, {}, {});
}

at::Tensor decoder_input_without(const DecoderTokens& tokens, const RemovedTokens& removed,
                                 const at::Tensor& embedded) {
  const SpecialKernels* kernels = kernels_for({embedded, tokens.mask_token, tokens.positions});
  return kernels == nullptr
             ? assembled_without(tokens, removed, embedded)
             : kernel_input(*kernels, tokens, embedded, int32(removed.image), int32(removed.slot));
}

at::Tensor starting_difference(const DecoderTokens& tokens, const StartingRows& rows) {
  const SpecialKernels* kernels =
      kernels_for({rows.difference, tokens.mask_token, tokens.positions, rows.embedded});
  if (kernels == nullptr) return assembled_difference(tokens, rows);
  const at::Tensor visible = tokens.visible.contiguous(), image = int32(rows.image);
  const at::Tensor slot = rows.slot.defined() ? int32(rows.slot) : at::Tensor();
  const at::Tensor embedded = rows.embedded.defined() ? rows.embedded.contiguous() : at::Tensor();
  const int64_t variants = image.size(0);
  args::StartingDifference arguments;
  arguments.patches = tokens.positions.size(1) - 1;
  arguments.visible_per_image = visible.size(1);
  arguments.width = rows.difference.size(1);
  arguments.image = ints(image);
  arguments.removed = ints(slot);
  arguments.visible = longs(visible);
  arguments.difference = floats(rows.difference);
  if (embedded.defined()) {
    arguments.mask_token = floats(tokens.mask_token);
    arguments.embedded = floats(embedded);
  }
  at::Tensor result =
      at::empty({variants * (arguments.patches + 1), arguments.width}, rows.difference.options());
  arguments.out = result.mutable_data_ptr<float>();
  kernels->starting_difference(arguments, variants);
  return result;
}

at::Tensor delete_rows(const at::Tensor& x, const RemovedTokens& removed) {
  const SpecialKernels* kernels = backend_of(x).special;
  if (kernels == nullptr || x.requires_grad())
    return gather_tokens(x, removed.image, ids_without(removed.token, x.size(1)));
  const at::Tensor rows = x.contiguous(), image = int32(removed.image), token = int32(removed.token);
  args::DeleteRow arguments;
  arguments.tokens = rows.size(1);
  arguments.row_bytes = rows.size(2) * static_cast<int64_t>(rows.element_size());
  arguments.image = ints(image);
  arguments.removed = ints(token);
  arguments.rows = static_cast<const char*>(rows.const_data_ptr());
  at::Tensor result = at::empty({image.size(0), rows.size(1) - 1, rows.size(2)}, rows.options());
  arguments.out = static_cast<char*>(result.mutable_data_ptr());
  kernels->delete_row(arguments, image.size(0));
  return result;
}

at::Tensor masked_tokens(const at::Tensor& visible, int64_t patches, const RemovedTokens* removed) {
  const SpecialKernels* kernels = backend_of(visible).special;
  const int64_t count = removed == nullptr ? visible.size(0) : removed->image.size(0);
  if (kernels == nullptr || count > args::kMostOfGrid) return listed_masked_tokens(visible, patches, removed);
  const at::Tensor ids = visible.contiguous();
  at::Tensor image, token;
  args::MaskedTokens arguments;
  arguments.patches = patches;
  arguments.visible_per_image = ids.size(1);
  arguments.visible = longs(ids);
  if (removed != nullptr) {
    image = int32(removed->image);
    token = int32(removed->token);
    arguments.image = ints(image);
    arguments.removed = ints(token);
  }
  at::Tensor result = at::empty({count, patches - ids.size(1)}, ids.options().dtype(at::kInt));
  arguments.out = result.mutable_data_ptr<int32_t>();
  kernels->masked_tokens(arguments, count);
  return result;
}

}  // namespace ltrp
