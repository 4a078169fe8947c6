// A model on a ViT that is not trained any more, in the precision it was loaded for.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/engine/low_precision_stack.h"
#include "core/engine/row_parallel_pass.h"
#include "core/model/vit.h"
#include "core/run_context.h"
#include "kernels/recordings.h"

namespace ltrp {

// Its patch projection and blocks; what reads their output is a TokenReader.
class InferenceVit {
 public:
  // Takes what it needs of a float32 ViT, which must live as long, and whose products may be dropped
  // afterwards. The precision is effective_precision(wanted).
  InferenceVit(const Vit& vit, Precision wanted, const RunContext& context);
  InferenceVit(const InferenceVit&) = delete;  // its recordings call it
  InferenceVit& operator=(const InferenceVit&) = delete;

  // images [n, 3, H, W] float32 contiguous, or bytes [n, H, W, 3] that are normalised with the model's own
  // mean and standard deviation; `ids` [n, K] int64: only those patches go in -> what the reader makes of the
  // tokens, [n, outputs] float32 on the CPU. A few images at a time go through the whole network on one
  // thread, so that threads need not meet; images that are too few for that are shared by row
  // (row_parallel_pass.h). On a CPU an image's numbers have the same bits whatever the others and the number
  // of threads are. Readers of one model differ in name. Progress counts images. Error(kNotFinite) where a
  // number is not finite.
  at::Tensor read(const at::Tensor& images, const std::optional<at::Tensor>& ids, const TokenReader& reader,
                  const RunContext& context) const;

  // What goes into the first block, [n, 1 + L, E] float32 on the model's device, where the images have to be.
  at::Tensor tokens(const at::Tensor& images) const;
  const LowPrecisionStack& stack() const { return stack_; }
  const VitConfig& config() const { return vit_.config(); }

  Precision precision() const { return precision_; }
  int64_t packed_bytes() const { return embedding_.packed_bytes() + stack_.packed_bytes(); }
  const Recordings& recordings() const { return *recordings_; }

 private:
  // The same on a device that work is queued on.
  at::Tensor queued_read(const at::Tensor& images, const std::optional<at::Tensor>& ids,
                         const TokenReader& reader, const RunContext& context) const;
  // What the model adds to tokens, the embedding's bias included: [1 + L, E].
  at::Tensor table_for(Grid grid) const;
  // Patches of images, embedded without the bias; `ids` [n, P] or undefined for all.
  ProductRows embed(const at::Tensor& images, const at::Tensor& ids) const;
  // What goes into the first block, [n, T, E]; `table` from table_for().
  at::Tensor embedded(const at::Tensor& images, const at::Tensor& ids, const at::Tensor& table) const;
  // Tokens that a reader reads, [n, T, E] or [n, 1, E].
  at::Tensor forward(const at::Tensor& images, const at::Tensor& ids, const at::Tensor& table,
                     bool first_only) const;
  // The same of images whose rows `parts` threads share.
  at::Tensor forward_shared(const at::Tensor& images, const at::Tensor& ids, const at::Tensor& table,
                            bool first_only, int64_t parts, const RunContext& context) const;
  // The tokens of a part: embedded patches and positions.
  at::Tensor tokens_of(const std::vector<RowParallelPass::Segment>& segments, const at::Tensor& images,
                       const at::Tensor& ids, bool all_patches, const at::Tensor& table) const;

  const Vit& vit_;
  Precision precision_;
  // Not int8: 1.4% of a ViT-S/16's multiplications, but a fifth of the squared error of int8 throughout.
  Precision embedding_precision_;
  LowPrecisionLinear embedding_;
  LowPrecisionStack stack_;
  at::Tensor table_;  // of the model's own grid
  std::shared_ptr<Recordings> recordings_ = std::make_shared<Recordings>();
};

// The ViT of a model with its head: `Model` is one of core/model.
template <typename Model>
class Inference {
 public:
  // Takes a float32 model, lays its weights out for inference and drops what training would need.
  Inference(Model model, Precision wanted, const RunContext& context = {})
      : model_(std::move(model)), vit_(model_.vit(), wanted, context) {
    model_.drop_products();
  }

  const Model& model() const { return model_; }
  const InferenceVit& vit() const { return vit_; }
  const auto& config() const { return model_.config(); }
  Precision precision() const { return vit_.precision(); }
  int64_t weight_bytes() const { return model_.weight_bytes() + vit_.packed_bytes(); }
  const Recordings& recordings() const { return vit_.recordings(); }

 private:
  Model model_;
  InferenceVit vit_;
};

}  // namespace ltrp
