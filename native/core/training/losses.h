// Learning-to-rank losses (docs/method.md, 4); differentiable once in `predicted` through autograd.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>

#include "core/names.h"
#include "core/run_context.h"
#include "kernels/arguments.h"

namespace ltrp {

using RankingLoss = args::ListLoss;
template <>
struct Names<RankingLoss> {
  static constexpr Named<RankingLoss> all[] = {{RankingLoss::kPointWise, "pointWise"},
                                               {RankingLoss::kListNet, "listNet"},
                                               {RankingLoss::kListMle, "listMle"},
                                               {RankingLoss::kRankNet, "rankNet"},
                                               {RankingLoss::kFocusedRank, "focusedRank"}};
};

struct RankingLossOptions {
  // list_mle: items drawn; focused_rank: items in the focus (required there). Above the list: all of it.
  std::optional<int64_t> k;
  std::optional<at::Tensor> noise;  // [n, V] for list_mle with k; drawn from `seed` when absent
  uint64_t seed = 0;
};

// predicted, target [lists, items] floating -> scalar tensor of the same dtype. Memory is O(lists * items)
// for all of them; the losses over pairs take O(lists * items^2) time and ask `context` every few
// milliseconds.
at::Tensor ranking_loss(RankingLoss loss, const at::Tensor& predicted, const at::Tensor& target,
                        const RankingLossOptions& options = {}, const RunContext& context = {});

}  // namespace ltrp
