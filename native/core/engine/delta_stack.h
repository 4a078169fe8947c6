// A stack of transformer blocks in the delta form (docs/method.md, 2): the anchor once in float32,
// then only differences from it, through low-precision matrix products.
#pragma once

#include <functional>
#include <vector>

#include "core/engine/low_precision_block.h"
#include "core/model/transformer.h"
#include "core/run_context.h"
#include "kernels/delta.h"

namespace ltrp {

// What one block of the anchor leaves behind, for A = images * T rows.
struct BlockAnchor {
  LayerNormAnchor norm1;
  at::Tensor qkv;       // by head: [images, heads, 3, T, E / heads]
  at::Tensor attended;  // [A, E]: concatenated heads
  LayerNormAnchor norm2;
  at::Tensor u;       // [A, M]: before the GELU
  at::Tensor gelu_u;  // [A, M]
};

struct StackAnchor {
  int64_t images = 0;
  int64_t tokens = 0;
  std::vector<BlockAnchor> blocks;
  LayerNormAnchor norm;  // the final one
  at::Tensor output;     // [images, T, E], after the final norm
};

class DeltaStack {
 public:
  // `stack` must be float32, and packed on a CPU; its weights are shared with the anchor's pass.
  DeltaStack(const Transformer& stack, Precision precision, const RunContext& context = {});

  StackAnchor anchor(const at::Tensor& tokens) const;  // [images, T, E] float32

  // Called for the rows of some variants, from several threads: the difference behind the final norm,
  // rounded.
  using Consumer = std::function<void(const RowRange&, const RoundedRows&)>;

  // Variants of the anchor's images: `removed` [m] int32 is the token that each lacks (undefined: none), `d`
  // [m * T, E] float32 how their tokens differ to begin with (undefined: not at all; overwritten otherwise).
  // Only the set's queries, if it has any, are computed in the last block and consumed. tolerance: see
  // LeaveOneOutOptions.
  void differences(const StackAnchor& anchor, const VariantSet& set, const at::Tensor& removed,
                   const at::Tensor& d, Precision output, double tolerance, const Consumer& consume,
                   const RunContext& context) const;

  // Bytes that an image's anchor and a variant hold while differences() runs.
  int64_t anchor_bytes(int64_t tokens) const;
  int64_t variant_bytes(int64_t tokens) const;
  int64_t packed_bytes() const;
  Precision precision() const { return precision_; }

 private:
  struct Part;
  void advance(Part& part, size_t block, const StackAnchor& anchor, Precision output, double tolerance,
               const Consumer& consume) const;

  const Transformer& stack_;
  Precision precision_;
  const Backend& backend_;
  std::vector<LowPrecisionBlock> blocks_;
  int64_t width_ = 0;
  int64_t mlp_width_ = 0;
};

}  // namespace ltrp
