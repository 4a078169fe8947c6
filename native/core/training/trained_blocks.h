// The blocks of a transformer that is trained on a CPU: one autograd function for all of them, over
// BlockPass. Threads take whole images, so that none waits for another inside a block; the weights' gradients
// of the threads are summed in one order. The same weights, inputs and number of threads give the same bits.
#pragma once

#include <ATen/core/Tensor.h>

#include <array>
#include <functional>
#include <optional>
#include <vector>

#include "core/model/transformer.h"
#include "core/training/block_pass.h"
#include "kernels/precision.h"

namespace ltrp {

class TrainedBlocks final : public BlocksPass {
 public:
  // Float32 weights on a CPU, shared with the model. `precision`: of products; those of bfloat16 round their
  // operands and sum in float32, attention stays float32.
  TrainedBlocks(const std::vector<TransformerBlock>& blocks, Precision precision);

  // tokens float32. The backward pass adds to the weights' grad() and yields the tokens' gradient; it belongs
  // to the latest forward pass, whose activations it finds in memory that lives as long as this object.
  at::Tensor forward(const at::Tensor& tokens, const std::optional<at::Tensor>& query_ids,
                     const at::Tensor& scales) override;

  // Called in the backward pass when a weight's gradient of this pass is complete; may be empty.
  std::function<void(const at::Tensor& weight)> on_gradient;

  // For the autograd function.
  at::Tensor run_forward(const at::Tensor& tokens, const at::Tensor& query_ids, const at::Tensor& scales);
  at::Tensor run_backward(const at::Tensor& tokens, const at::Tensor& query_ids, const at::Tensor& scales,
                          const at::Tensor& gradient);
  int64_t passes() const { return passes_; }

 private:
  struct Block {
    std::array<at::Tensor, kBlockTensors> weights;
    std::array<at::Tensor, kBlockProducts> forward_panels, backward_panels;
    at::Tensor kept;
    BlockShape shape;
    BlockKept of;
    float* y = nullptr;  // what it yields, in `kept`; the last one's is the result
  };

  void pack();
  void lay_out(const at::Tensor& tokens, const at::Tensor& query_ids);
  BlockPass pass(size_t block, const at::Tensor& query_ids, const at::Tensor& scales) const;
  int64_t parts() const;

  std::vector<Block> blocks_;
  int64_t images_ = 0;
  int64_t packed_version_ = -1, packed_panel_ = 0;
  int64_t passes_ = 0;
  at::Tensor scratch_, part_gradients_;
};

}  // namespace ltrp
