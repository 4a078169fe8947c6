#include "core/engine/row_parallel_pass.h"

#include <ATen/ATen.h>

#include <algorithm>

namespace ltrp {

RowParallelPass::RowParallelPass(const LowPrecisionStack& stack, int64_t images, int64_t tokens,
                                 int64_t parts, bool first_only)
    : stack_(stack),
      tokens_(tokens),
      first_only_(first_only),
      parts_(static_cast<size_t>(parts)),
      slots_(at::arange(tokens, at::kInt)) {
  const int64_t rows = images * tokens;
  for (int64_t i = 0; i < parts; ++i) {
    Part& part = at(i);
    part.begin = i * rows / parts;
    const int64_t end = (i + 1) * rows / parts;
    for (int64_t row = part.begin; row < end;) {
      const int64_t image = row / tokens, next = std::min(end, (image + 1) * tokens);
      part.segments.push_back({image, row - image * tokens, next - image * tokens});
      row = next;
    }
  }
  for (ProductRows& qkv : qkv_) qkv = stack.product_rows(rows);
}

void RowParallelPass::enter(int64_t part, const at::Tensor& x) { at(part).rows = {x}; }

void RowParallelPass::advance(int64_t stage, int64_t index) {
  Part& part = at(index);
  if (stage > 0) {
    const auto block = static_cast<size_t>(stage - 1);
    const bool only = first_only_ && stage + 1 == stages();
    const at::Tensor attended = attend(block, part, only);
    if (only) keep_first(part);
    if (part.rows.x.size(0) > 0) stack_.finish(block, attended, part.rows);
  }
  if (stage + 1 < stages()) project(static_cast<size_t>(stage), part);
}

void RowParallelPass::project(size_t block, Part& part) {
  const ProductRows& all = qkv(block);
  const int64_t rows = part.rows.x.size(0);
  ProductRows mine{all.values.narrow(0, part.begin, rows)};
  if (all.scale.defined()) mine.scale = all.scale.narrow(0, part.begin, rows);
  stack_.project_qkv(block, part.rows, mine);
}

at::Tensor RowParallelPass::attend(size_t block, const Part& part, bool first_only) {
  const ProductRows& all = qkv(block);
  std::vector<at::Tensor> attended;
  for (const Segment& segment : part.segments) {
    if (first_only && segment.first > 0) continue;
    ProductRows image;
    image.values = all.values.narrow(0, segment.image * tokens_, tokens_);
    if (all.scale.defined()) image.scale = all.scale.narrow(0, segment.image * tokens_, tokens_);
    const int64_t queries = first_only ? 1 : segment.size();
    attended.push_back(
        stack_.attend(block, image, tokens_, slots_.narrow(0, segment.first, queries).view({1, queries})));
  }
  if (attended.empty()) return {};
  return attended.size() == 1 ? attended.front() : at::cat(attended);
}

void RowParallelPass::keep_first(Part& part) {
  std::vector<at::Tensor> first;
  int64_t row = 0;
  for (const Segment& segment : part.segments) {
    if (segment.first == 0) first.push_back(part.rows.x.narrow(0, row, 1));
    row += segment.size();
  }
  part.rows.x = first.empty() ? part.rows.x.narrow(0, 0, 0) : at::cat(first);
}

at::Tensor RowParallelPass::leave(int64_t index) {
  Part& part = at(index);
  if (part.rows.x.size(0) == 0) return part.rows.x;
  return stack_.final_norm(part.rows);
}

}  // namespace ltrp
