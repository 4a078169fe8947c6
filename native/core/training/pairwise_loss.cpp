#include "core/training/pairwise_loss.h"

#include <ATen/ATen.h>

#include <algorithm>
#include <numeric>

#include "kernels/parallel.h"

namespace ltrp {

namespace {

constexpr double kTieThreshold = 0.001;  // closer targets count as equal
// Pairs at a time: what is made of them stays in a core's cache.
constexpr int64_t kPairs = int64_t{1} << 16;

// For every row item its sums over the columns, [lists, rows]: of the losses and, where asked for, of their
// derivatives in the row's prediction.
struct RowSums {
  at::Tensor losses, derivatives;
};

RowSums row_sums(const ListItems& rows, const ListItems& columns, bool gradient, const RunContext& context) {
  const int64_t lists = rows.predicted.size(0), height = rows.predicted.size(1),
                width = columns.predicted.size(1);
  const int64_t rows_at_once = std::min(height, std::max<int64_t>(1, kPairs / width));
  const int64_t lists_at_once = std::min(lists, std::max<int64_t>(1, kPairs / (rows_at_once * width)));
  const int64_t row_blocks = (height + rows_at_once - 1) / rows_at_once;
  const int64_t list_blocks = (lists + lists_at_once - 1) / lists_at_once;
  RowSums sums;
  sums.losses = at::empty_like(rows.predicted);
  if (gradient) sums.derivatives = at::empty_like(rows.predicted);
  for_tasks(
      list_blocks * row_blocks, [] { return 0; },
      [&](int64_t task, int) {
        context.check();
        const int64_t list = task / row_blocks * lists_at_once, row = task % row_blocks * rows_at_once;
        const int64_t list_count = std::min(lists_at_once, lists - list),
                      row_count = std::min(rows_at_once, height - row);
        const auto of_rows = [&](const at::Tensor& t) {
          return t.narrow(0, list, list_count).narrow(1, row, row_count);
        };
        const auto pairs = [&](const at::Tensor& row_values, const at::Tensor& column_values) {
          return of_rows(row_values).unsqueeze(2) - column_values.narrow(0, list, list_count).unsqueeze(1);
        };
        const at::Tensor difference = pairs(rows.predicted, columns.predicted);
        const at::Tensor order = pairs(rows.target, columns.target);
        const at::Tensor label = at::where(order.abs().lt(kTieThreshold), at::full_like(order, 0.5),
                                           order.gt(0).to(order.scalar_type()));
        of_rows(sums.losses)
            .copy_(
                at::binary_cross_entropy_with_logits(difference, label, {}, {}, at::Reduction::None).sum(2));
        if (gradient) of_rows(sums.derivatives).copy_((difference.sigmoid() - label).sum(2));
      });
  return sums;
}

}  // namespace

PairwiseLoss pairwise_loss(const ListItems& rows, const ListItems& columns, bool gradient,
                           const RunContext& context) {
  const double pairs =
      static_cast<double>(rows.predicted.numel()) * static_cast<double>(columns.predicted.size(1));
  const double share = 0.5 / pairs;
  const RowSums sums = row_sums(rows, columns, gradient, context);
  PairwiseLoss loss;
  // One after the other: at::sum() would share the work out, and round by how many threads there are.
  const at::Tensor losses = sums.losses.to(at::kDouble);
  const double* first = losses.const_data_ptr<double>();
  loss.value = std::accumulate(first, first + losses.numel(), 0.0) * share;
  if (!gradient) return loss;
  loss.row_gradient = sums.derivatives * share;
  // A column's derivatives are those of a row whose pairs are turned round.
  const bool same = rows.predicted.is_same(columns.predicted);
  loss.column_gradient =
      same ? loss.row_gradient : row_sums(columns, rows, true, context).derivatives * share;
  return loss;
}

}  // namespace ltrp
