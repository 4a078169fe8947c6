// The scoring loop of the method's authors, rendered in LibTorch: what the engine's speed is compared with.
#pragma once

#include <ATen/core/Tensor.h>

#include "core/checkpoint/checkpoint.h"
#include "core/model/mae.h"
#include "core/model/transformer.h"

namespace ltrp::bench {

// float32, or autocast to a half type: matrix products in it, weights and residual stream in float32.
enum class LoopPrecision { kFloat32, kFloat16, kBFloat16 };
LoopPrecision parse_loop_precision(const std::string& name);

// torch.autocast(device, dtype) for the lifetime of the object; nothing for float32.
class LoopAutocast {
 public:
  explicit LoopAutocast(LoopPrecision precision, at::DeviceType device = at::kCPU);
  ~LoopAutocast();
  LoopAutocast(const LoopAutocast&) = delete;
  LoopAutocast& operator=(const LoopAutocast&) = delete;

 private:
  bool active_;
  at::DeviceType device_;
};

// Lets autocast keep the converted copies of these weights for the lifetime of a LoopAutocast, as it does for
// the parameters of a PyTorch module: it keeps those that ask for gradients. Calls belong under NoGradGuard.
void keep_conversions(const TensorMap& weights);

// Encoder once per batch with all visible patches; decoder once for the anchor and once per removed patch,
// for the whole batch at a time. The removed token stays among the L + 1 and is masked in every block's
// attention, as key and as query; attention is written out (product, mask, softmax, product); every block and
// the prediction run on all tokens. Where the original does more than the method needs, the cheaper reading
// is taken: the decoder's input is made once, the encoder's attention is LibTorch's fused one, and autocast
// keeps converted decoder weights for a whole call.
class AuthorsLoop {
 public:
  // `model` must outlive the loop; its weights get keep_conversions().
  explicit AuthorsLoop(const MaskedAutoencoder& model);

  // images [n, 3, H, W], visible [n, V] -> float32 scores [n, variants] of the first `variants` visible
  // patches: mean |anchor - prediction| over masked patches and values, reduced in float32.
  at::Tensor scores(const at::Tensor& images, const at::Tensor& visible, int64_t variants,
                    LoopPrecision precision) const;

 private:
  // tokens [n, T, E] -> float32 predictions [n, T - 1, C]; `removed` [n] token ids, undefined for the anchor.
  at::Tensor decode(at::Tensor tokens, const at::Tensor& removed) const;

  const MaskedAutoencoder& model_;
};

}  // namespace ltrp::bench
