#include "core/training/trained_blocks.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/ceil_div.h>
#include <c10/core/GradMode.h>
#include <torch/csrc/autograd/custom_function.h>

#include <algorithm>

#include "kernels/interrupt.h"
#include "kernels/parallel.h"
#include "kernels/simd.h"

namespace ltrp {

namespace {

const int64_t* ids_of(const at::Tensor& query_ids) {
  return query_ids.defined() ? query_ids.const_data_ptr<int64_t>() : nullptr;
}

struct BlocksFunction : torch::autograd::Function<BlocksFunction> {
  static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& tokens,
                            const std::optional<at::Tensor>& query_ids,
                            const std::optional<at::Tensor>& given_scales, TrainedBlocks* blocks) {
    const at::Tensor ids = query_ids.value_or(at::Tensor()), scales = given_scales.value_or(at::Tensor());
    const at::Tensor result = blocks->run_forward(tokens, ids, scales);
    context->save_for_backward({tokens, ids, scales});
    context->saved_data["blocks"] = reinterpret_cast<int64_t>(blocks);
    context->saved_data["pass"] = blocks->passes();
    return result;
  }
  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                 const torch::autograd::variable_list& upstream) {
    const auto saved = context->get_saved_variables();
    auto* blocks = reinterpret_cast<TrainedBlocks*>(context->saved_data["blocks"].toInt());
    TORCH_CHECK(blocks->passes() == context->saved_data["pass"].toInt(),
                "the blocks have been passed again since; their activations are those of the latest pass");
    return {blocks->run_backward(saved[0], saved[1], saved[2], upstream[0]), at::Tensor(), at::Tensor(),
            at::Tensor()};
  }
};

// For every part of `images`, from as many threads: body(part, first image, end).
template <typename Body>
void for_parts(int64_t parts, int64_t images, Body body) {
  const Interrupt interrupt = Interrupt::current();
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    const InterruptScope scope(interrupt);
    for (int64_t part = begin; part < end; ++part) {
      body(part, images * part / parts, images * (part + 1) / parts);
    }
  });
}

// body(first image, end) for few enough images at a time.
template <typename Body>
void for_chunks(int64_t first, int64_t end, int64_t at_a_time, Body body) {
  const int64_t images = end - first, chunks = at::ceil_div(images, at_a_time);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    Interrupt::current().check();
    body(first + images * chunk / chunks, first + images * (chunk + 1) / chunks);
  }
}

// Memory that grows to what was asked for most.
float* grown(at::Tensor& memory, int64_t floats) {
  if (!memory.defined() || memory.numel() < floats) {
    memory.reset();
    memory = at::empty({floats}, at::kFloat);
  }
  return memory.mutable_data_ptr<float>();
}

}  // namespace

TrainedBlocks::TrainedBlocks(const std::vector<TransformerBlock>& blocks, Precision precision) {
  for (const TransformerBlock& from : blocks) {
    Block block;
    block.weights = {from.qkv.weight,   from.proj.weight, from.fc1.weight,   from.fc2.weight,
                     from.qkv.bias,     from.proj.bias,   from.fc1.bias,     from.fc2.bias,
                     from.norm1.weight, from.norm1.bias,  from.norm2.weight, from.norm2.bias};
    block.shape.dim = from.proj.weight.size(0);
    block.shape.mlp_dim = from.fc1.weight.size(0);
    block.shape.heads = from.heads;
    block.shape.eps = from.norm1.eps;
    block.shape.operand = precision == Precision::kBfloat16 ? Operand::kBfloat16 : Operand::kFloat32;
    blocks_.push_back(std::move(block));
  }
}

at::Tensor TrainedBlocks::forward(const at::Tensor& tokens, const std::optional<at::Tensor>& query_ids,
                                  const at::Tensor& scales) {
  std::optional<at::Tensor> ids, of_branches;
  if (query_ids) ids = query_ids->contiguous();
  if (scales.defined()) of_branches = scales.to(at::kFloat).contiguous();
  return BlocksFunction::apply(tokens.to(at::kFloat).contiguous(), ids, of_branches, this);
}

// By the number of images, so that no thread is without one.
int64_t TrainedBlocks::parts() const { return std::min<int64_t>(images_, at::get_num_threads()); }

void TrainedBlocks::pack() {
  int64_t version = 0;
  for (const Block& block : blocks_) {
    for (size_t i = 0; i < kBlockProducts; ++i) version += block.weights[i]._version();
  }
  const int64_t panel = training_kernels().panel_outputs;
  if (version == packed_version_ && panel == packed_panel_) return;
  const bool rounds = blocks_[0].shape.operand == Operand::kBfloat16;
  int64_t most = 0;  // values of a weight's panels
  for (Block& block : blocks_) {
    for (size_t i = 0; i < kBlockProducts; ++i) {
      const int64_t out = block.weights[i].size(0), in = block.weights[i].size(1);
      const int64_t forward = at::round_up(out, panel), backward = at::round_up(in, panel);
      // A pair of bfloat16 takes the place of a float32.
      grown(block.forward_panels[i], forward * (rounds ? at::ceil_div<int64_t>(in, 2) : in));
      grown(block.backward_panels[i], backward * (rounds ? at::ceil_div<int64_t>(out, 2) : out));
      most = std::max({most, forward * in, backward * out});
    }
  }
  for_tasks(
      static_cast<int64_t>(blocks_.size() * kBlockProducts * 2),
      // Bfloat16 has its panels in float32 first.
      [&] { return rounds ? at::empty({most}, at::kFloat) : at::Tensor(); },
      [&](int64_t task, const at::Tensor& unrounded) {
        Block& block = blocks_[static_cast<size_t>(task) / (2 * kBlockProducts)];
        const size_t which = static_cast<size_t>(task) / 2 % kBlockProducts;
        const at::Tensor& weight = block.weights[which];
        Panels args;
        args.transposed = task % 2 == 0;
        args.b = weight.const_data_ptr<float>();
        args.b_row = weight.size(1);
        args.inputs = weight.size(args.transposed ? 1 : 0);
        args.outputs = weight.size(args.transposed ? 0 : 1);
        const at::Tensor& panels = (args.transposed ? block.forward_panels : block.backward_panels)[which];
        args.panels = (rounds ? unrounded : panels).mutable_data_ptr<float>();
        training_kernels().pack(args);
        if (!rounds) return;
        training_kernels().round_panels(args.panels, args.inputs, args.outputs,
                                        static_cast<uint16_t*>(panels.mutable_data_ptr()));
      });
  packed_version_ = version;
  packed_panel_ = panel;
}

void TrainedBlocks::lay_out(const at::Tensor& tokens, const at::Tensor& query_ids) {
  images_ = tokens.size(0);
  const float* x = tokens.const_data_ptr<float>();
  for (size_t i = 0; i < blocks_.size(); ++i) {
    Block& block = blocks_[i];
    BlockShape& s = block.shape;
    s.tokens = tokens.size(1);
    s.native = simd_level() >= SimdLevel::kAvx512Bf16;
    s.queries = i + 1 == blocks_.size() && query_ids.defined() ? query_ids.size(1) : s.tokens;
    const int64_t rows = images_ * s.tokens, queries = images_ * s.queries;
    // The last one is what the block yields, unless that is the result.
    const std::array<int64_t, 11> sizes{rows * 3 * s.dim,
                                        queries * s.dim,
                                        queries * s.dim,
                                        queries * s.mlp_dim,
                                        rows,
                                        rows,
                                        queries,
                                        queries,
                                        queries * s.heads,
                                        queries * s.heads,
                                        i + 1 == blocks_.size() ? 0 : queries * s.dim};
    int64_t all = 0;
    for (const int64_t size : sizes) all += in_lines(size);
    float* memory = grown(block.kept, all);
    size_t next = 0;
    const auto take = [&] {
      float* taken = memory;
      memory += in_lines(sizes[next++]);
      return taken;
    };
    BlockKept& of = block.of;
    of.x = x;
    of.qkv = take();
    of.o = take();
    of.middle = take();
    of.u = take();
    of.mean1 = take();
    of.inverse1 = take();
    of.mean2 = take();
    of.inverse2 = take();
    of.most = take();
    of.share = take();
    x = block.y = take();
  }
}

BlockPass TrainedBlocks::pass(size_t i, const at::Tensor& query_ids, const at::Tensor& scales) const {
  const Block& block = blocks_[i];
  BlockWeights weights;
  for (size_t t = 0; t < kBlockTensors; ++t) weights.values[t] = block.weights[t].const_data_ptr<float>();
  for (size_t t = 0; t < kBlockProducts; ++t) {
    weights.forward[t] = block.forward_panels[t].const_data_ptr();
    weights.backward[t] = block.backward_panels[t].const_data_ptr();
  }
  std::array<const float*, 2> of_branches{};
  if (scales.defined()) {
    of_branches[0] = scales.const_data_ptr<float>() + static_cast<int64_t>(2 * i) * images_;
    of_branches[1] = of_branches[0] + images_;
  }
  return {block.shape, weights, block.of, i + 1 == blocks_.size() ? ids_of(query_ids) : nullptr, of_branches};
}

at::Tensor TrainedBlocks::run_forward(const at::Tensor& tokens, const at::Tensor& query_ids,
                                      const at::Tensor& scales) {
  pack();
  lay_out(tokens, query_ids);
  ++passes_;
  const BlockShape& last = blocks_.back().shape;
  const at::Tensor result =
      at::empty({images_, last.queries, last.dim}, tokens.options().requires_grad(false));
  std::vector<BlockPass> passes;
  for (size_t i = 0; i < blocks_.size(); ++i) passes.push_back(pass(i, query_ids, scales));
  const int64_t at_a_time = BlockPass::images_at_a_time(last);
  const int64_t scratch = in_lines(BlockPass::scratch_floats(last, at_a_time));
  float* memory = grown(scratch_, parts() * scratch);
  for_parts(parts(), images_, [&](int64_t part, int64_t first, int64_t end) {
    for (size_t i = 0; i < passes.size(); ++i) {
      float* y = i + 1 < passes.size() ? blocks_[i].y : result.mutable_data_ptr<float>();
      for_chunks(first, end, at_a_time,
                 [&](int64_t from, int64_t to) { passes[i].forward(from, to, memory + part * scratch, y); });
    }
  });
  return result;
}

at::Tensor TrainedBlocks::run_backward(const at::Tensor& tokens, const at::Tensor& query_ids,
                                       const at::Tensor& scales, const at::Tensor& gradient) {
  const c10::NoGradGuard no_grad;
  const at::Tensor dy = gradient.to(at::kFloat).contiguous();
  const at::Tensor dx = at::empty_like(tokens);
  const BlockShape& shape = blocks_.back().shape;
  const int64_t at_a_time = BlockPass::images_at_a_time(shape);
  const int64_t scratch = in_lines(BlockPass::scratch_floats(shape, at_a_time));
  const int64_t part_count = parts();
  std::array<int64_t, kBlockTensors> offsets{};
  int64_t all = 0;
  for (size_t t = 0; t < kBlockTensors; ++t) {
    offsets[t] = all;
    all += in_lines(blocks_[0].weights[t].numel());
  }
  float* memory = grown(scratch_, part_count * scratch);
  float* gradients = grown(part_gradients_, part_count * all);
  for (size_t i = blocks_.size(); i-- > 0;) {
    const BlockPass block = pass(i, query_ids, scales);
    const float* upstream = i + 1 == blocks_.size() ? dy.const_data_ptr<float>() : dx.const_data_ptr<float>();
    for_parts(part_count, images_, [&](int64_t part, int64_t first, int64_t end) {
      std::array<float*, kBlockTensors> of_part{};
      for (size_t t = 0; t < kBlockTensors; ++t) of_part[t] = gradients + part * all + offsets[t];
      for_chunks(first, end, at_a_time, [&](int64_t from, int64_t to) {
        block.backward(from, to, memory + part * scratch, upstream, dx.mutable_data_ptr<float>(), of_part,
                       /*fresh=*/from == first);
      });
    });
    std::array<float*, kBlockTensors> sums{};
    for (size_t t = 0; t < kBlockTensors; ++t) {
      at::Tensor& sum = blocks_[i].weights[t].mutable_grad();
      if (!sum.defined()) sum = at::zeros_like(blocks_[i].weights[t]);
      sums[t] = sum.mutable_data_ptr<float>();
    }
    // Each thread sums a piece of every tensor over the parts, in their order.
    const int64_t threads = at::get_num_threads();
    at::parallel_for(0, threads, 1, [&](int64_t begin, int64_t end) {
      for (size_t t = 0; t < kBlockTensors; ++t) {
        const int64_t count = blocks_[i].weights[t].numel();
        const int64_t stop = count * end / threads;
        for (int64_t part = 0; part < part_count; ++part) {
          const float* of_part = gradients + part * all + offsets[t];
          for (int64_t j = count * begin / threads; j < stop; ++j) sums[t][j] += of_part[j];
        }
      }
    });
    if (!on_gradient) continue;
    for (const at::Tensor& weight : blocks_[i].weights) on_gradient(weight);
  }
  return dx;
}

}  // namespace ltrp
