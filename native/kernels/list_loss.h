// Losses over lists with their gradients in one go, on devices that have a kernel for them.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "kernels/arguments.h"

namespace ltrp {

struct ListLossTask {
  args::ListLoss loss = args::ListLoss::kListMle;
  int64_t k = 0;         // kListMle: how many items `noise` draws, 0: all; kFocusedRank: the focus
  at::Tensor predicted;  // [lists, items] float32
  at::Tensor target;     // [lists, items] float32
  at::Tensor noise;      // [lists, items] float32, the k smallest are drawn; undefined: all items
  bool gradient = true;  // whether it is wanted
};

struct ListLossResult {
  at::Tensor value;     // [] float32
  at::Tensor gradient;  // [lists, items] float32: of the value in `predicted`
};

// Whether the device of `predicted` has a kernel at all.
bool has_list_loss(const at::Tensor& predicted);

// False where it has none for this task.
bool list_loss(const ListLossTask& task, ListLossResult& result);

}  // namespace ltrp
