#include "kernels/training.h"

#include <ATen/ATen.h>
#include <ATen/ceil_div.h>
#include <doctest/doctest.h>

#include <cmath>

#include "test/delta_support.h"

namespace ltrp::test {
namespace {

int64_t whole_panels(int64_t outputs) { return at::round_up(outputs, training_kernels().panel_outputs); }

at::Tensor panels_of(const at::Tensor& b, bool transposed) {
  Panels args;
  args.inputs = b.size(transposed ? 1 : 0);
  args.outputs = b.size(transposed ? 0 : 1);
  args.b = b.const_data_ptr<float>();
  args.b_row = b.size(1);
  args.transposed = transposed;
  const at::Tensor panels = at::full({whole_panels(args.outputs) * args.inputs}, NAN, at::kFloat);
  args.panels = panels.mutable_data_ptr<float>();
  training_kernels().pack(args);
  return panels;
}

struct Shape {
  int64_t rows, inputs, outputs;
};
const Shape kShapes[] = {{1, 1, 1}, {5, 7, 3}, {14, 16, 64}, {29, 33, 70}, {15, 50, 32}, {43, 192, 100}};

TEST_CASE("products with panels equal float64, whatever the layout of the left-hand side") {
  at_every_level([] {
    for (const Shape& s : kShapes) {
      CAPTURE(s.rows);
      const at::Tensor a = normal({s.rows, s.inputs}, 1), b = normal({s.inputs, s.outputs}, 2),
                       bias = normal({s.outputs}, 3), residual = normal({s.rows, s.outputs}, 4);
      for (const bool transposed : {false, true}) {
        for (const bool accumulate : {false, true}) {
          const at::Tensor left = transposed ? a.t().contiguous() : a;
          const at::Tensor c = residual.clone();
          PanelProduct p;
          p.rows = s.rows;
          p.inputs = s.inputs;
          p.outputs = s.outputs;
          p.a = left.const_data_ptr();
          p.a_row = left.size(1);
          p.transposed = transposed;
          const at::Tensor right = transposed ? b : b.t().contiguous();
          const at::Tensor panels = panels_of(right, !transposed);
          p.b = panels.const_data_ptr();
          p.c = c.mutable_data_ptr<float>();
          p.c_row = s.outputs;
          p.accumulate = accumulate;
          p.bias = bias.const_data_ptr<float>();
          if (!accumulate) p.residual = residual.const_data_ptr<float>();
          training_kernels().product(p);
          const at::Tensor expected = at::addmm(doubles(residual), doubles(a), doubles(b)) + doubles(bias);
          const double most = (doubles(a).abs().mm(doubles(b).abs()).max()).item<double>() + 8;
          CHECK((doubles(c) - expected).abs().max().item<double>() <
                kUlp * static_cast<double>(s.inputs + 3) * most);
        }
      }
    }
  });
}

TEST_CASE("bfloat16 operands are rounded to nearest and their products summed in float32") {
  at_every_level([] {
    for (const Shape& s : kShapes) {
      CAPTURE(s.rows);
      const at::Tensor a = normal({s.rows, s.inputs}, 1), b = normal({s.inputs, s.outputs}, 2);
      const at::Tensor panels = panels_of(b, false);
      const int64_t even = s.inputs + s.inputs % 2;
      const at::Tensor rounded_panels = at::empty({whole_panels(s.outputs) * even}, at::kBFloat16);
      const auto words = [](const at::Tensor& x) { return static_cast<uint16_t*>(x.mutable_data_ptr()); };
      training_kernels().round_panels(panels.const_data_ptr<float>(), s.inputs, s.outputs,
                                      words(rounded_panels));
      const at::Tensor rows = at::empty({s.rows, even}, at::kBFloat16),
                       columns = at::empty({s.rows, even}, at::kBFloat16);
      training_kernels().round_rows(a.const_data_ptr<float>(), s.rows, s.inputs, words(rows));
      const at::Tensor turned = a.t().contiguous();
      training_kernels().round_columns(turned.const_data_ptr<float>(), s.inputs, s.rows, words(columns));
      CHECK(at::equal(rows.slice(1, 0, s.inputs), a.to(at::kBFloat16)));
      CHECK(at::equal(rows, columns));
      const at::Tensor c = at::empty({s.rows, s.outputs}, at::kFloat);
      PanelProduct p;
      p.type = Operand::kBfloat16;
      p.native = simd_level() >= SimdLevel::kAvx512Bf16;
      p.rows = s.rows;
      p.inputs = s.inputs;
      p.outputs = s.outputs;
      p.a = rows.const_data_ptr();
      p.a_row = even;
      p.b = rounded_panels.const_data_ptr();
      p.c = c.mutable_data_ptr<float>();
      p.c_row = s.outputs;
      training_kernels().product(p);
      const at::Tensor x = doubles(a.to(at::kBFloat16)), y = doubles(b.to(at::kBFloat16));
      CHECK((doubles(c) - x.mm(y)).abs().max().item<double>() <
            kUlp * static_cast<double>(s.inputs + 2) * (x.abs().mm(y.abs()).max().item<double>() + 1));
    }
  });
}

}  // namespace
}  // namespace ltrp::test
