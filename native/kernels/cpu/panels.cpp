#include "kernels/cpu/panels.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <vector>

#include "kernels/cpu/simd_dispatch.h"
#include "kernels/linear.h"
#include "kernels/simd.h"

namespace ltrp::cpu {

namespace {

using simd::kPanel;
using simd::MatrixProduct;

constexpr int64_t kLargestPanel = 640 << 10;  // bytes

int64_t panels_for(int64_t outputs) { return (outputs + kPanel - 1) / kPanel; }

struct Instructions {
  bool vnni = false, bfloat16 = false, amx = false;
};

const Instructions& instructions() {
  static const Instructions found = [] {
    Instructions result;
#if defined(__x86_64__)
    __builtin_cpu_init();
    result.vnni = __builtin_cpu_supports("avx512vnni") != 0;
    result.bfloat16 = __builtin_cpu_supports("avx512bf16") != 0;
    result.amx = __builtin_cpu_supports("amx-int8") != 0;
#endif
    return result;
  }();
  return found;
}

// Inputs side by side in a panel.
int64_t depth_of(at::ScalarType type) { return 4 / static_cast<int64_t>(c10::elementSize(type)); }

// A block of rows stays in a core's own cache while the panels pass; threads share blocks and panels out.
void run(const MatrixProduct& args, int64_t rows) {
  if (rows == 0) return;
  // Panels were packed for the highest level; tests may have chosen a lower one since.
  const auto kernel = simd::kernels_of(SimdLevel::kAvx512).product;
  constexpr int64_t kBlock = 200;
  constexpr double kWorthAThread = 4e6;  // operations
  const int64_t panels = panels_for(args.outputs), blocks = (rows + kBlock - 1) / kBlock;
  const double each =
      2.0 * static_cast<double>(std::min(rows, kBlock) * args.inputs) * static_cast<double>(kPanel);
  const auto grain = static_cast<int64_t>(kWorthAThread / each) + 1;
  at::parallel_for(0, blocks * panels, grain, [&](int64_t begin, int64_t end) {
    while (begin < end) {
      const int64_t block = begin / panels, first = begin % panels;
      const int64_t last = std::min(panels, first + end - begin);
      kernel(args, block * kBlock, std::min(rows, (block + 1) * kBlock), first, last);
      begin += last - first;
    }
  });
}

}  // namespace

bool multiplies_panels(Precision precision, int64_t inputs) {
  if (simd_level() != SimdLevel::kAvx512) return false;
  switch (precision) {
    case Precision::kFloat32:
      // A panel has to stay in a core's own cache.
      return inputs * kPanel * 4 <= kLargestPanel;
    case Precision::kBfloat16:
      return instructions().bfloat16 && !instructions().amx && inputs % 2 == 0;
    case Precision::kInt8:
      return instructions().vnni && !instructions().amx && inputs % 4 == 0;
    default:
      return false;
  }
}

at::Tensor panels_of(const at::Tensor& weight) {
  const int64_t outputs = weight.size(0), inputs = weight.size(1), panels = panels_for(outputs),
                depth = depth_of(weight.scalar_type());
  return at::constant_pad_nd(weight, {0, 0, 0, panels * kPanel - outputs})
      .view({panels, kPanel, inputs / depth, depth})
      .permute({0, 2, 1, 3})
      .contiguous();
}

at::Tensor panel_sums(const at::Tensor& weight) {
  const int64_t outputs = weight.size(0);
  return at::constant_pad_nd(weight.sum(1, /*keepdim=*/false, at::kInt),
                             {0, panels_for(outputs) * kPanel - outputs});
}

at::Tensor panel_scale(const at::Tensor& scale) {
  return at::constant_pad_nd(scale, {0, panels_for(scale.size(0)) * kPanel - scale.size(0)});
}

at::Tensor multiply_panels(const PackedWeight& weight, const RoundedRows& x) {
  const at::Tensor rows = x.values.contiguous();
  MatrixProduct args;
  args.inputs = weight.inputs;
  args.outputs = weight.outputs;
  args.x = rows.const_data_ptr();
  args.panels = weight.values.const_data_ptr();
  args.native_bfloat16 = instructions().bfloat16;
  auto type = at::kBFloat16;
  switch (weight.precision) {
    case Precision::kInt8:
      args.encoding = args::Encoding::kUint8;
      args.sums = weight.sums.const_data_ptr<int32_t>();
      args.zero_point = static_cast<int32_t>(x.zero_point);
      args.scale = weight.scale.const_data_ptr<float>();
      break;
    case Precision::kBfloat16:
      args.encoding = args::Encoding::kBfloat16;
      break;
    default:
      type = at::kFloat;
  }
  const at::Tensor y = at::empty({rows.size(0), weight.outputs}, rows.options().dtype(type));
  args.y = y.mutable_data_ptr();
  run(args, rows.size(0));
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
  args.panels = panels.const_data_ptr();
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
  run(args, rows.numel() / std::max<int64_t>(1, args.inputs));
  return y;
}

}  // namespace ltrp::cpu
