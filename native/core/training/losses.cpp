#include "core/training/losses.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include "core/error.h"
#include "core/random.h"
#include "kernels/list_loss.h"

namespace ltrp {

namespace {

constexpr double kTieThreshold = 0.001;  // rank_net's t: closer targets count as equal

// -log of the Plackett-Luce probability of the target's order, summed over the list, mean over lists.
at::Tensor list_mle(const at::Tensor& predicted, const at::Tensor& target) {
  const at::Tensor order = target.argsort(/*stable=*/true, -1, /*descending=*/true);
  const at::Tensor sorted = predicted.gather(1, order);
  const at::Tensor tail = sorted.flip({1}).logcumsumexp(1).flip({1});
  return (tail - sorted).sum(1).mean();
}

at::Tensor list_net(const at::Tensor& predicted, const at::Tensor& target) {
  return -(target.softmax(1) * predicted.log_softmax(1)).mean();
}

// BCE of sigmoid(s_i - s_j) against the order of y_i and y_j, mean over all pairs of a row and a column item,
// halved.
at::Tensor pairwise(const at::Tensor& rows, const at::Tensor& columns, const at::Tensor& row_targets,
                    const at::Tensor& column_targets) {
  const at::Tensor difference = rows.unsqueeze(2) - columns.unsqueeze(1);
  const at::Tensor order = row_targets.unsqueeze(2) - column_targets.unsqueeze(1);
  const at::Tensor label = at::where(order.abs().lt(kTieThreshold), at::full_like(order, 0.5),
                                     order.gt(0).to(order.scalar_type()));
  return at::binary_cross_entropy_with_logits(difference, label) / 2;
}

int64_t checked_k(int64_t k, int64_t items) {
  if (k < 1 || k > items) {
    throw Error(codes::kInvalidArgument, "k must lie between 1 and the " + std::to_string(items) +
                                             " items of a list; got " + std::to_string(k) + ".");
  }
  return k;
}

// Noise of sampled_list_mle [lists, items], where the predictions are.
at::Tensor drawing_noise(const at::Tensor& predicted, const RankingLossOptions& options) {
  const at::Tensor noise =
      options.noise ? *options.noise
                    : at::empty(predicted.sizes(), at::kFloat).uniform_(0, 1, generator_for(options.seed, 0));
  return noise.to(predicted.device());
}

at::Tensor sampled_list_mle(const at::Tensor& predicted, const at::Tensor& target,
                            const RankingLossOptions& options) {
  // The paper samples k = 20 of 19 visible patches: more than there are means all of them.
  const int64_t k = std::min(*options.k, predicted.size(1));
  checked_k(k, predicted.size(1));
  const at::Tensor noise = drawing_noise(predicted, options);
  const at::Tensor chosen = noise.argsort(/*stable=*/true, 1, false).slice(1, 0, k);
  return list_mle(predicted.gather(1, chosen), target.gather(1, chosen));
}

int64_t focus_of(const RankingLossOptions& options, int64_t items) {
  if (!options.k)
    throw Error(codes::kInvalidArgument, "The loss focusedRank needs k, the number of patches in the focus.");
  return checked_k(*options.k, items);
}

at::Tensor focused_rank(const at::Tensor& predicted, const at::Tensor& target,
                        const RankingLossOptions& options) {
  const int64_t k = focus_of(options, predicted.size(1));
  const at::Tensor order = target.argsort(/*stable=*/true, 1, /*descending=*/true);
  const at::Tensor s = predicted.gather(1, order), y = target.gather(1, order);
  const at::Tensor focus = list_mle(s.slice(1, 0, k), y.slice(1, 0, k));
  if (k == predicted.size(1)) return focus;
  return focus + pairwise(s.slice(1, 0, k), s.slice(1, k), y.slice(1, 0, k), y.slice(1, k));
}

// A loss whose gradient its kernel has left behind.
struct WithGradient : torch::autograd::Function<WithGradient> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& /*predicted*/,
                            const at::Tensor& value, const at::Tensor& gradient) {
    context->save_for_backward({gradient});
    return value.clone();
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& upstream) {
    return {context->get_saved_variables()[0] * upstream[0], at::Tensor(), at::Tensor()};
  }
};

// The same loss through the device's own kernel; undefined where it has none.
at::Tensor kernel_loss(RankingLoss loss, const at::Tensor& predicted, const at::Tensor& target,
                       const RankingLossOptions& options) {
  if (!has_list_loss(predicted)) return {};
  ListLossTask task;
  task.predicted = predicted;
  task.target = target;
  task.gradient = predicted.requires_grad();
  switch (loss) {
    case RankingLoss::kPointWise:
      task.loss = args::ListLoss::kPointWise;
      break;
    case RankingLoss::kListNet:
      task.loss = args::ListLoss::kListNet;
      break;
    case RankingLoss::kListMle:
      task.loss = args::ListLoss::kListMle;
      if (options.k) {
        task.k = std::min(*options.k, predicted.size(1));
        checked_k(task.k, predicted.size(1));
        task.noise = drawing_noise(predicted, options);
      }
      break;
    case RankingLoss::kRankNet:
      task.loss = args::ListLoss::kRankNet;
      break;
    case RankingLoss::kFocusedRank:
      task.loss = args::ListLoss::kFocusedRank;
      task.k = focus_of(options, predicted.size(1));
      break;
  }
  ListLossResult result;
  if (!list_loss(task, result)) return {};
  return task.gradient ? WithGradient::apply(predicted, result.value, result.gradient) : result.value;
}

}  // namespace

RankingLoss parse_ranking_loss(const std::string& name) {
  if (name == "pointWise") return RankingLoss::kPointWise;
  if (name == "listNet") return RankingLoss::kListNet;
  if (name == "listMle") return RankingLoss::kListMle;
  if (name == "rankNet") return RankingLoss::kRankNet;
  if (name == "focusedRank") return RankingLoss::kFocusedRank;
  throw Error(codes::kInvalidArgument,
              "Unknown loss '" + name + "'; use pointWise, listNet, listMle, rankNet or focusedRank.");
}

at::Tensor ranking_loss(RankingLoss loss, const at::Tensor& predicted, const at::Tensor& target,
                        const RankingLossOptions& options) {
  if (predicted.dim() != 2 || predicted.sizes() != target.sizes() || predicted.size(0) < 1 ||
      predicted.size(1) < 1) {
    throw Error(codes::kInvalidArgument,
                "predicted and target must both be [lists, items] with at least one of each.");
  }
  if (options.noise && options.noise->sizes() != predicted.sizes()) {
    throw Error(codes::kInvalidArgument, "noise must have the shape of predicted.");
  }
  if (const at::Tensor found = kernel_loss(loss, predicted, target, options); found.defined()) return found;
  switch (loss) {
    case RankingLoss::kPointWise:
      return at::mse_loss(predicted, target);
    case RankingLoss::kListNet:
      return list_net(predicted, target);
    case RankingLoss::kListMle:
      return options.k ? sampled_list_mle(predicted, target, options) : list_mle(predicted, target);
    case RankingLoss::kRankNet:
      return pairwise(predicted, predicted, target, target);
    case RankingLoss::kFocusedRank:
      return focused_rank(predicted, target, options);
  }
  throw Error(codes::kInternal, "Unknown ranking loss.");
}

}  // namespace ltrp
