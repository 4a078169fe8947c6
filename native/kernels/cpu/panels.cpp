#include "kernels/cpu/panels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/products.h"
#include "kernels/cpu/simd_dispatch.h"
#include "kernels/interrupt.h"
#include "kernels/linear.h"
#include "kernels/simd.h"

namespace ltrp::cpu {

namespace {

using simd::MatrixProduct;

int64_t panels_for(int64_t outputs, int64_t panel) { return (outputs + panel - 1) / panel; }

// Inputs side by side in a panel.
int64_t depth_of(at::ScalarType type) { return 4 / static_cast<int64_t>(c10::elementSize(type)); }

// Columns of zeros up to a multiple of `depth`.
at::Tensor filled_up(const at::Tensor& x, int64_t depth) {
  const int64_t missing = (depth - x.size(-1) % depth) % depth;
  return missing == 0 ? x.contiguous() : at::constant_pad_nd(x, {0, missing});
}

at::Tensor whole_panels(const at::Tensor& per_output) {
  const int64_t outputs = per_output.size(0), panel = simd::kernels().panel_outputs;
  return at::constant_pad_nd(per_output, {0, panels_for(outputs, panel) * panel - outputs});
}

// A block of rows stays in a core's own cache while the panels pass; threads share blocks and panels out.
void run(MatrixProduct args, const at::Tensor& panels, int64_t rows) {
  if (rows == 0) return;
  // Panels were packed for the level that was in use then; tests may have chosen another one since.
  const int64_t panel = panels.size(2);
  const simd::KernelTable& table = simd::kernels_with_panels_of(panel);
  const bool native = &table == &simd::kernels();
  args.panels = panels.const_data_ptr();
  args.native_int8 = native && simd::has_int8_products();
  args.native_bfloat16 = native && simd::has_bfloat16_products();
  args.native_tiles = native && simd::has_tiles();
  constexpr int64_t kBlock = 200;
  constexpr double kWorthAThread = 4e6;  // operations
  const int64_t count = panels_for(args.outputs, panel), blocks = (rows + kBlock - 1) / kBlock;
  const double each =
      2.0 * static_cast<double>(std::min(rows, kBlock) * args.inputs) * static_cast<double>(panel);
  const auto grain = static_cast<int64_t>(kWorthAThread / each) + 1;
  const Interrupt interrupt = Interrupt::current();
  at::parallel_for(0, blocks * count, grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      interrupt.check();
      const int64_t block = begin / count, first = begin % count;
      const int64_t last = std::min(count, first + end - begin);
      table.product(args, block * kBlock, std::min(rows, (block + 1) * kBlock), first, last);
      begin += last - first;
    }
  });
}

}  // namespace

at::Tensor panels_of(const at::Tensor& weight) {
  const int64_t outputs = weight.size(0), panel = simd::kernels().panel_outputs,
                panels = panels_for(outputs, panel), depth = depth_of(weight.scalar_type());
  const at::Tensor whole = filled_up(weight, depth);
  return at::constant_pad_nd(whole, {0, 0, 0, panels * panel - outputs})
      .view({panels, panel, whole.size(1) / depth, depth})
      .permute({0, 2, 1, 3})
      .contiguous();
}

at::Tensor panel_sums(const at::Tensor& weight) {
  return whole_panels(weight.sum(1, /*keepdim=*/false, at::kInt));
}

at::Tensor panel_scale(const at::Tensor& scale) { return whole_panels(scale); }

at::Tensor multiply_panels(const PackedWeight& weight, const RoundedRows& x, const at::Tensor& into) {
  const at::Tensor rows = filled_up(x.values, weight.values.size(3));
  MatrixProduct args;
  args.inputs = rows.size(1);
  args.outputs = weight.outputs;
  args.x = rows.const_data_ptr();
  args.encoding = encoding(weight.precision);
  if (weight.scale.defined()) {
    args.sums = weight.sums.const_data_ptr<int32_t>();
    args.zero_point = static_cast<int32_t>(x.zero_point);
    args.scale = weight.scale.const_data_ptr<float>();
  }
  const auto type = args.encoding == args::Encoding::kFloat32 ? at::kFloat : at::kBFloat16;
  const at::Tensor y =
      into.defined() ? into : at::empty({rows.size(0), weight.outputs}, rows.options().dtype(type));
  TORCH_CHECK(y.is_contiguous() && y.scalar_type() == type && y.numel() == rows.size(0) * weight.outputs,
              "a product goes into rows of its own size and type");
  args.y = y.mutable_data_ptr();
  run(args, weight.values, rows.size(0));
  return y;
}

at::Tensor linear_panels(const at::Tensor& x, const at::Tensor& panels, const at::Tensor& bias, bool gelu,
                         const at::Tensor& residual) {
  const at::Tensor rows = x.contiguous();
  at::Tensor added;
  MatrixProduct args;
  args.inputs = rows.size(-1);
  args.outputs = bias.size(0);
  args.x = rows.const_data_ptr();
  args.bias = bias.const_data_ptr<float>();
  args.gelu = gelu;
  if (residual.defined()) {
    added = residual.contiguous();
    args.residual = added.const_data_ptr<float>();
  }
  std::vector<int64_t> shape = rows.sizes().vec();
  shape.back() = args.outputs;
  const at::Tensor y = at::empty(shape, rows.options());
  args.y = y.mutable_data_ptr();
  run(args, panels, rows.numel() / std::max<int64_t>(1, args.inputs));
  return y;
}

}  // namespace ltrp::cpu
