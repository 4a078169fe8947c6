#include "core/training/losses.h"

#include <ATen/ATen.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/engine/ordering.h"
#include "core/error.h"
#include "core/random.h"
#include "core/training/pairwise_loss.h"
#include "kernels/parallel.h"
#include "kernels/tensor_arguments.h"

namespace ltrp {

namespace {

// Noise of list_mle's draw [lists, items], where the predictions are.
at::Tensor drawing_noise(const at::Tensor& predicted, const RankingLossOptions& options) {
  const at::Tensor noise =
      options.noise ? *options.noise
                    : at::empty(predicted.sizes(), at::kFloat).uniform_(0, 1, generator_for(options.seed, 0));
  return noise.to(predicted.device());
}

// The paper samples k = 20 of 19 visible patches: more than there are means all of them.
int64_t items_of(int64_t k, int64_t items) {
  check_in(at_least(1), "k", static_cast<double>(k));
  return std::min(k, items);
}

int64_t focus_of(const RankingLossOptions& options, int64_t items) {
  if (!options.k)
    invalid("k must be given for the loss focusedRank, the number of items in focus; got none.");
  return items_of(*options.k, items);
}

// A loss and, where asked for, its derivatives in the predictions.
struct LossAndGradient {
  double value = 0;
  at::Tensor gradient;  // [lists, items], of the predictions' dtype
};

// Indices of a list's items by target, the highest first: all of them, or the k with the smallest noise.
std::vector<int64_t> by_target(const double* target, int64_t items, const double* noise, int64_t k,
                               const RunContext& context) {
  std::vector<int64_t> picked;
  if (noise != nullptr) {
    picked = sorted_indices(
        items, [&](int64_t i, int64_t j) { return noise[i] < noise[j]; }, context);
    picked.resize(static_cast<size_t>(k));
    merge_sort(
        picked, [&](int64_t i, int64_t j) { return target[i] > target[j]; }, context);
    return picked;
  }
  return sorted_indices(
      items, [&](int64_t i, int64_t j) { return target[i] > target[j]; }, context);
}

double log_add_exp(double a, double b) { return std::max(a, b) + std::log1p(std::exp(-std::abs(a - b))); }

// -log of the Plackett-Luce probability of the first k items of `order`: the sum over them of t_j - s_j,
// where t_j is the logarithm of the sum of exp(s_l) over l >= j. `gradient` (null: not wanted) receives its
// derivatives times `share`.
double plackett_luce(const double* s, const std::vector<int64_t>& order, int64_t k, double share,
                     double* gradient, const RunContext& context) {
  std::vector<double> tails(static_cast<size_t>(k));
  double loss = 0, tail = -std::numeric_limits<double>::infinity();
  for (int64_t j = k - 1; j >= 0; --j) {
    if (j % kItemsBetweenChecks == 0) context.check();
    const double own = s[order[static_cast<size_t>(j)]];
    tail = j == k - 1 ? own : log_add_exp(tail, own);
    tails[static_cast<size_t>(j)] = tail;
    loss += tail - own;
  }
  if (gradient == nullptr) return loss;
  // In s_l: the sum over j <= l of exp(s_l - t_j), minus 1; each of them is at most 1.
  double heads = 0;
  for (int64_t l = 0; l < k; ++l) {
    if (l % kItemsBetweenChecks == 0) context.check();
    const int64_t item = order[static_cast<size_t>(l)];
    heads = l == 0 ? -tails[0] : log_add_exp(heads, -tails[static_cast<size_t>(l)]);
    gradient[item] += (std::exp(s[item] + heads) - 1) * share;
  }
  return loss;
}

// Mean over the lists of plackett_luce; `k` of their items where `noise` is defined, the first k by target
// where it is not.
LossAndGradient list_mle(const at::Tensor& predicted, const at::Tensor& target, const at::Tensor& noise,
                         int64_t k, bool gradient, const RunContext& context) {
  const int64_t lists = predicted.size(0), items = predicted.size(1);
  const at::Tensor s = predicted.to(at::kDouble), y = target.to(at::kDouble),
                   drawn = noise.defined() ? noise.to(at::kDouble) : noise;
  const at::Tensor derivatives = gradient ? at::zeros({lists, items}, at::kDouble) : at::Tensor();
  std::vector<double> losses(static_cast<size_t>(lists));
  for_tasks(
      lists, [] { return 0; },
      [&](int64_t list, int) {
        context.check();
        const auto row = [&](const at::Tensor& t) {
          return t.defined() ? t.const_data_ptr<double>() + list * items : nullptr;
        };
        double* out = gradient ? derivatives.mutable_data_ptr<double>() + list * items : nullptr;
        losses[static_cast<size_t>(list)] =
            plackett_luce(row(s), by_target(row(y), items, row(drawn), k, context), k,
                          1 / static_cast<double>(lists), out, context);
      });
  LossAndGradient result;
  result.value = std::accumulate(losses.begin(), losses.end(), 0.0) / static_cast<double>(lists);
  if (gradient) result.gradient = derivatives.to(predicted.scalar_type());
  return result;
}

LossAndGradient rank_net(const at::Tensor& predicted, const at::Tensor& target, bool gradient,
                         const RunContext& context) {
  const ListItems items{predicted, target};
  const PairwiseLoss pairs = pairwise_loss(items, items, gradient, context);
  // Every item is a row and a column.
  return {pairs.value, gradient ? pairs.row_gradient + pairs.column_gradient : at::Tensor()};
}

LossAndGradient focused_rank(const at::Tensor& predicted, const at::Tensor& target, int64_t k, bool gradient,
                             const RunContext& context) {
  LossAndGradient result = list_mle(predicted, target, {}, k, gradient, context);
  const int64_t lists = predicted.size(0), items = predicted.size(1);
  if (k == items) return result;
  at::Tensor order = at::empty({lists, items}, at::kLong);
  const at::Tensor y = target.to(at::kDouble);
  for (int64_t list = 0; list < lists; ++list) {
    const std::vector<int64_t> sorted =
        by_target(y.const_data_ptr<double>() + list * items, items, nullptr, items, context);
    std::copy(sorted.begin(), sorted.end(), order.mutable_data_ptr<int64_t>() + list * items);
  }
  const at::Tensor focus = order.narrow(1, 0, k), rest = order.narrow(1, k, items - k);
  const auto picked = [&](const at::Tensor& ids) {
    return ListItems{predicted.gather(1, ids), target.gather(1, ids)};
  };
  const PairwiseLoss pairs = pairwise_loss(picked(focus), picked(rest), gradient, context);
  result.value += pairs.value;
  if (gradient) {
    result.gradient.scatter_add_(1, focus, pairs.row_gradient);
    result.gradient.scatter_add_(1, rest, pairs.column_gradient);
  }
  return result;
}

at::Tensor list_net(const at::Tensor& predicted, const at::Tensor& target) {
  return -(target.softmax(1) * predicted.log_softmax(1)).mean();
}

// A loss whose gradient is known already.
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

// The same loss through the device's own kernel; undefined where it has none for these.
at::Tensor kernel_loss(RankingLoss loss, const at::Tensor& predicted, const at::Tensor& target,
                       const RankingLossOptions& options) {
  const SpecialKernels* kernels = backend_of(predicted).special;
  const int64_t lists = predicted.size(0), items = predicted.size(1);
  if (kernels == nullptr) return {};
  args::ListwiseLoss arguments;
  arguments.loss = loss;
  arguments.items = items;
  at::Tensor noise;
  if (loss == RankingLoss::kFocusedRank) arguments.k = focus_of(options, items);
  if (loss == RankingLoss::kListMle && options.k) {
    arguments.k = items_of(*options.k, items);
    noise = drawing_noise(predicted, options);
  }
  const auto is_float = [](const at::Tensor& x) { return !x.defined() || x.scalar_type() == at::kFloat; };
  if (items > args::kMostSorted || !is_float(predicted) || !is_float(target) || !is_float(noise)) return {};
  const at::Tensor s = predicted.detach().contiguous(), y = target.detach().contiguous();
  const at::Tensor value = at::empty({}, s.options()),
                   of_list = at::empty({lists}, s.options().dtype(at::kDouble));
  at::Tensor gradient;
  arguments.predicted = floats(s);
  arguments.target = floats(y);
  if (noise.defined()) {
    noise = noise.contiguous();
    arguments.noise = floats(noise);
  }
  arguments.list_loss = of_list.mutable_data_ptr<double>();
  arguments.value = value.mutable_data_ptr<float>();
  if (predicted.requires_grad()) {
    gradient = at::empty_like(s);
    arguments.gradient = gradient.mutable_data_ptr<float>();
  }
  kernels->list_loss(arguments, lists);
  return gradient.defined() ? WithGradient::apply(predicted, value, gradient) : value;
}

}  // namespace

at::Tensor ranking_loss(RankingLoss loss, const at::Tensor& predicted, const at::Tensor& target,
                        const RankingLossOptions& options, const RunContext& context) {
  if (predicted.dim() != 2 || predicted.sizes() != target.sizes() || predicted.size(0) < 1 ||
      predicted.size(1) < 1) {
    invalid("predicted and target must both be [lists, items] with at least one of each.");
  }
  if (options.noise && options.noise->sizes() != predicted.sizes()) {
    invalid("noise must have the shape of predicted.");
  }
  if (const at::Tensor found = kernel_loss(loss, predicted, target, options); found.defined()) return found;
  if (loss == RankingLoss::kPointWise) return at::mse_loss(predicted, target);
  if (loss == RankingLoss::kListNet) return list_net(predicted, target);
  const bool gradient = predicted.requires_grad();
  const at::Tensor s = predicted.detach().to(at::kCPU).contiguous(),
                   y = target.detach().to(at::kCPU).contiguous();
  const int64_t items = predicted.size(1);
  LossAndGradient result;
  if (loss == RankingLoss::kRankNet) {
    result = rank_net(s, y, gradient, context);
  } else if (loss == RankingLoss::kFocusedRank) {
    result = focused_rank(s, y, focus_of(options, items), gradient, context);
  } else if (options.k) {
    const at::Tensor noise = drawing_noise(s, options).contiguous();
    result = list_mle(s, y, noise, items_of(*options.k, items), gradient, context);
  } else {
    result = list_mle(s, y, {}, items, gradient, context);
  }
  // By way of float64: what float32 cannot hold becomes infinite, which callers look for.
  const auto options_of_value = predicted.options().requires_grad(false);
  const at::Tensor value =
      at::full({}, result.value, options_of_value.dtype(at::kDouble)).to(predicted.scalar_type());
  return gradient ? WithGradient::apply(predicted, value, result.gradient.to(predicted.device())) : value;
}

}  // namespace ltrp
