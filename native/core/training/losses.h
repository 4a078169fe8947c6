// Learning-to-rank losses (method section 4); differentiable in `predicted` through autograd.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <optional>
#include <string>

namespace ltrp {

enum class RankingLoss { kPointWise, kListNet, kListMle, kRankNet, kFocusedRank };

// 'pointWise', 'listNet', 'listMle', 'rankNet', 'focusedRank'; Error(kInvalidArgument) lists them.
RankingLoss parse_ranking_loss(const std::string& name);

struct RankingLossOptions {
  std::optional<int64_t> k;  // list_mle: items drawn; focused_rank: items in the focus (required there)
  std::optional<at::Tensor> noise;  // [n, V] for list_mle with k; drawn from `seed` when absent
  uint64_t seed = 0;
};

// predicted, target [lists, items] floating -> scalar tensor of the same dtype.
at::Tensor ranking_loss(RankingLoss loss, const at::Tensor& predicted, const at::Tensor& target,
                        const RankingLossOptions& options = {});

}  // namespace ltrp
