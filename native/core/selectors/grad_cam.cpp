#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <vector>

#include "core/selectors/selectors.h"

namespace ltrp {
namespace {

// Tensors that were made for inference cannot be saved for a backward pass; their copies can.
LinearWeights saved(const LinearWeights& linear) { return {linear.weight.clone(), linear.bias.clone(), {}}; }
LayerNormWeights saved(const LayerNormWeights& norm) {
  if (!norm.weight.defined()) return norm;
  return {norm.weight.clone(), norm.bias.clone(), norm.eps};
}

// What the gradient goes through: the last block, the norm after it, and the head.
struct Last {
  TransformerBlock block;
  LayerNormWeights norm, fc_norm;
  LinearWeights head;
  bool cls;

  explicit Last(const OpenClassifier& opened) {
    const VitSteps vit(opened.vit());
    const Classifier& classifier = opened.model();
    block = vit.unpacked(vit.depth() - 1);
    block.norm1 = saved(block.norm1);
    block.norm2 = saved(block.norm2);
    for (LinearWeights* linear : {&block.qkv, &block.proj, &block.fc1, &block.fc2}) *linear = saved(*linear);
    norm = saved(vit.final_norm());
    fc_norm = saved(classifier.fc_norm());
    head = saved(classifier.head());
    cls = classifier.config().pooling == Pooling::kCls;
  }

  // Tokens [1, T, D] and their first norm -> logits [classes].
  at::Tensor logits(const at::Tensor& tokens, const at::Tensor& normed) const {
    const at::Tensor attended = block.attend(block.qkv(normed));
    if (cls) {
      const auto first = [](const at::Tensor& x) { return x.slice(1, 0, 1); };
      return head(norm(block.finish(first(tokens), first(attended))).select(1, 0))[0];
    }
    return head(fc_norm(norm(block.finish(tokens, attended)).slice(1, 1).mean(1)))[0];
  }
};

}  // namespace

// Grad-CAM (Selvaraju et al. 2017) on a ViT: a is what the last block's first norm yields (behind it the
// gradient of a CLS head is zero for every patch), w the mean over patches of the derivative of the class's
// logit by a; a patch's score is relu(sum over channels of w a). Costs a forward pass and that of a block
// backwards.
at::Tensor grad_cam_scores(const at::Tensor& images, const SelectorOptions& options,
                           const RunContext& context) {
  const OpenClassifier& opened = *std::get<std::shared_ptr<const OpenClassifier>>(options.model);
  const VitSteps vit(opened.vit());
  const at::Device device = opened.model().vit().device();
  const c10::InferenceMode with_gradients(false);
  const Last last(opened);
  std::vector<at::Tensor> scores(static_cast<size_t>(images.size(0)));
  for_each_image(options, images.size(0), context, [&](int64_t i) {
    at::Tensor tokens;
    {
      const c10::InferenceMode without;
      tokens = vit.forward(vit.tokens(images.narrow(0, i, 1).to(device)), 0, vit.depth() - 1);
    }
    const c10::InferenceMode with(false);
    tokens = tokens.clone();
    const at::Tensor normed = last.block.norm1(tokens).detach().requires_grad_(true);
    const at::Tensor logits = last.logits(tokens, normed);
    const int64_t class_id =
        options.classes ? (*options.classes)[i].item<int64_t>() : logits.argmax().item<int64_t>();
    logits[class_id].backward();
    const at::Tensor weights = normed.grad()[0].slice(0, 1).mean(0);
    scores[static_cast<size_t>(i)] = (normed.detach()[0].slice(0, 1) * weights).sum(-1).relu();
  });
  return at::stack(scores);
}

}  // namespace ltrp
