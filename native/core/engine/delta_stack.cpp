#include "core/engine/delta_stack.h"

#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <thread>

#include "kernels/forward.h"
#include "kernels/parallel.h"

namespace ltrp {

namespace {

at::Tensor flat(const at::Tensor& x) { return x.view({-1, x.size(-1)}); }

// A product of q, k and v, one row for each of the set's rows in `range`, as the attention operators read it;
// zeros for rows that are not in the range.
ProductRows by_head(const ProductRows& dqkv, const RowRange& range, const VariantSet& set, int64_t heads) {
  if (!range.ids.defined())
    return {split_heads(dqkv.values, set.tokens, heads), dqkv.scale, dqkv.column_scale};
  const at::Tensor ids = range.ids.to(at::kLong);
  const at::Tensor packed_row = at::full({set.rows()}, -1, range.ids.options());
  packed_row.index_copy_(0, ids, at::arange(range.size(), range.ids.options()));
  ProductRows result{split_heads(dqkv.values, set.tokens, heads, packed_row), {}, dqkv.column_scale};
  if (dqkv.scale.defined()) {
    result.scale = at::zeros({set.rows()}, dqkv.scale.options()).index_copy_(0, ids, dqkv.scale);
  }
  return result;
}

}  // namespace

// Some of the variants, which one thread at a time takes through a block.
struct DeltaStack::Part {
  VariantSet all;   // every token
  VariantSet last;  // of the last block: the queries
  at::Tensor removed;
  int64_t first_row = 0;  // of the last block's rows, among those of all parts
  at::Tensor attended;    // [rows, E], where it is known before the block starts
  at::Tensor d;           // [rows, E]
  ProductRows dqkv;       // of the block to come, by head
};

DeltaStack::DeltaStack(const Transformer& stack, Precision precision, const RunContext& context)
    : stack_(stack), precision_(precision), backend_(backend_of(stack.norm.weight)) {
  for (const TransformerBlock& block : stack.blocks) {
    context.check();
    blocks_.emplace_back(block, precision);
  }
  width_ = stack.norm.weight.size(0);
  mlp_width_ = stack.blocks.empty() ? 0 : stack.blocks.front().fc1.bias.size(0);
}

StackAnchor DeltaStack::anchor(const at::Tensor& tokens) const {
  StackAnchor anchor;
  anchor.images = tokens.size(0);
  anchor.tokens = tokens.size(1);
  at::Tensor s = flat(tokens.contiguous());
  const auto norm = [](const LayerNormWeights& weights, const at::Tensor& x, LayerNormAnchor* kept) {
    return layer_norm_rows(x, weights.weight, weights.bias, weights.eps, kept);
  };
  for (const TransformerBlock& block : stack_.blocks) {
    BlockAnchor kept;
    kept.qkv = split_heads(block.qkv(norm(block.norm1, s, &kept.norm1)), anchor.tokens, block.heads);
    kept.attended = flat(attention_rows(kept.qkv));
    const at::Tensor middle = block.proj(kept.attended).add_(s);
    kept.u = block.fc1(norm(block.norm2, middle, &kept.norm2));
    // By the kernel that the difference is taken with: another's rounding would not cancel.
    kept.gelu_u = gelu_rows({kept.u, {}, {}}, at::zeros_like(block.fc1.bias), Precision::kFloat32).values;
    s = block.fc2(kept.gelu_u).add_(middle);
    anchor.blocks.push_back(std::move(kept));
  }
  anchor.output = norm(stack_.norm, s, &anchor.norm).view_as(tokens);
  return anchor;
}

void DeltaStack::advance(Part& part, size_t block, const StackAnchor& anchor, Precision output,
                         double tolerance, const Consumer& consume) const {
  const bool last = block + 1 == blocks_.size();
  const BlockAnchor& kept = anchor.blocks[block];
  const TransformerBlock& weights = stack_.blocks[block];
  const VariantSet& set = last ? part.last : part.all;
  const RowRange rows{0, set.rows(), {}};
  const at::Tensor attended =
      part.attended.defined() ? part.attended
                              : attention_difference(set, kept.qkv, part.dqkv, part.removed, kept.attended);
  if (last && set.queries.defined() && part.d.size(0) != set.rows()) {
    // From here on only the queries have rows.
    const at::Tensor tokens = set.queries.index_select(0, set.image).to(at::kLong);  // [m, Q]
    const at::Tensor starts = at::arange(set.variants, tokens.options()).unsqueeze(1) * set.tokens;
    part.d = part.d.index_select(0, (tokens + starts).reshape({-1}));
  }
  part.attended.reset();
  part.dqkv = {};

  // Products of all rows, or of those that matter; an update that was not added to d yet goes along with what
  // reads d.
  const LowPrecisionBlock& products = blocks_[block];
  const bool sparse = tolerance > 0;
  // A removed token is no key; where only queries are read in the end, its own row matters to nobody.
  const at::Tensor unread = part.last.queries.defined() && !last ? part.removed : at::Tensor();
  ProductRows update = products.proj(round_rows(rows, attended, precision_));
  RowRange chosen = rows;
  if (sparse) {
    chosen =
        large_rows(layer_norm_difference_squares(set, rows, part.d, update, kept.norm2, weights.norm2.weight),
                   set, unread, tolerance);
    update = {};
  }
  const ProductRows du = products.fc1(
      layer_norm_difference(set, chosen, part.d, update, kept.norm2, weights.norm2.weight, precision_));
  update = products.fc2(gelu_difference(set, chosen, du, kept.u, kept.gelu_u, precision_));
  if (sparse) {
    add_rows(chosen, part.d, update);
    update = {};
  }
  if (last) {
    consume({part.first_row, part.first_row + set.rows(), {}},
            layer_norm_difference(set, rows, part.d, update, anchor.norm, stack_.norm.weight, output));
    return;
  }
  const LayerNormAnchor& norm1 = anchor.blocks[block + 1].norm1;
  const at::Tensor& weight1 = stack_.blocks[block + 1].norm1.weight;
  if (sparse) {
    chosen = large_rows(layer_norm_difference_squares(set, rows, part.d, {}, norm1, weight1), set, unread,
                        tolerance);
  }
  part.dqkv = by_head(
      blocks_[block + 1].qkv(layer_norm_difference(set, chosen, part.d, update, norm1, weight1, precision_)),
      chosen, set, weights.heads);
}

void DeltaStack::differences(const StackAnchor& anchor, const VariantSet& set, const at::Tensor& removed,
                             const at::Tensor& d, Precision output, double tolerance, const Consumer& consume,
                             const RunContext& context) const {
  const bool one_block = blocks_.size() == 1;
  at::Tensor attended;
  if (!d.defined()) {
    VariantSet first = set;
    if (!one_block) first.queries.reset();
    attended = removal_difference(first, anchor.blocks[0].qkv, removed, anchor.blocks[0].attended);
  }
  const int64_t variants_at_a_time = (backend_.values_at_a_time() / width_ + set.tokens - 1) / set.tokens;
  std::vector<Part> parts;
  for (int64_t begin = 0; begin < set.variants; begin += variants_at_a_time) {
    const int64_t count = std::min(variants_at_a_time, set.variants - begin);
    Part part;
    part.last = set;
    part.last.variants = count;
    part.last.image = set.image.narrow(0, begin, count);
    part.all = part.last;
    part.all.queries.reset();
    if (removed.defined()) part.removed = removed.narrow(0, begin, count);
    part.first_row = begin * set.slots();
    if (attended.defined()) {
      const int64_t slots = attended.size(0) / set.variants;
      part.attended = attended.narrow(0, begin * slots, count * slots);
    } else {
      part.d = d.narrow(0, begin * set.tokens, count * set.tokens);
    }
    parts.push_back(std::move(part));
  }

  // Tasks in order of blocks. A part's next block waits for its own last one only, so that threads need not
  // meet after every block.
  const auto count = static_cast<int64_t>(parts.size());
  const auto finished = std::make_unique<std::atomic<size_t>[]>(parts.size());
  std::atomic<bool> stopped{false};
  for_tasks(
      std::min(count, backend_.callers()), count * static_cast<int64_t>(blocks_.size()),
      [] { return c10::InferenceMode(); },
      [&](int64_t task, const c10::InferenceMode&) {
        const auto which = static_cast<size_t>(task % count), block = static_cast<size_t>(task / count);
        while (finished[which] < block && !stopped) std::this_thread::yield();
        if (stopped) return;
        context.check();
        Part& part = parts[which];
        if (block == 0 && !part.d.defined()) {
          part.d = at::zeros({(one_block ? part.last : part.all).rows(), width_}, anchor.output.options());
        } else if (block == 0) {
          const RowRange rows{0, part.all.rows(), {}};
          const ProductRows dqkv = blocks_[0].qkv(layer_norm_difference(
              part.all, rows, part.d, {}, anchor.blocks[0].norm1, stack_.blocks[0].norm1.weight, precision_));
          part.dqkv = by_head(dqkv, rows, part.all, stack_.blocks[0].heads);
        }
        advance(part, block, anchor, output, tolerance, consume);
        ++finished[which];
      },
      &stopped);
}

int64_t DeltaStack::anchor_bytes(int64_t tokens) const {
  return static_cast<int64_t>(blocks_.size()) * tokens * 4 * (6 * width_ + 2 * mlp_width_);
}

int64_t DeltaStack::variant_bytes(int64_t tokens) const {
  // d and what the heads yield in float32, q, k and v as products.
  return tokens * (8 * width_ + (precision_ == Precision::kFloat32 ? 12 : 6) * width_);
}

int64_t DeltaStack::packed_bytes() const {
  int64_t bytes = 0;
  for (const LowPrecisionBlock& block : blocks_) bytes += block.packed_bytes();
  return bytes;
}

}  // namespace ltrp
