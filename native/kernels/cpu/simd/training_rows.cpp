// Norms, GELU and bias gradients of training, a row at a time.
#include "kernels/cpu/simd/training.h"
#include "kernels/cpu/simd/vector.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {
namespace {

// Row `row` of panels of `rows` rows: value(offset, count), zeros behind the last one.
template <typename Value>
inline void to_panels(float* panels, int64_t rows, int64_t row, int64_t width, Value value) {
  constexpr int64_t panel = kTrainingPanel;
  float* to = panels + row * panel;
  for (int64_t first = 0; first < width; first += panel, to += rows * panel) {
    for (int64_t i = 0; i < panel; i += kWidth) {
      const int64_t left = width - first - i;
      if (left >= kWidth) {
        store(to + i, value(first + i, static_cast<int64_t>(kWidth)));
      } else {
        store(to + i, left > 0 ? first_lanes(value(first + i, left), left) : Floats{});
      }
    }
  }
}

}  // namespace

void layer_norm_forward(const LayerNormForward& args) {
  const int64_t width = args.width;
  const float per_width = 1.0F / static_cast<float>(width);
  for (int64_t r = 0; r < args.rows; ++r) {
    const float* x = args.x + r * width;
    Floats sum = {};
    for_vectors(width, [&](int64_t i, int64_t count) { sum += load_part(x + i, count); });
    const float mean = sum_of(sum) * per_width;
    Floats square = {};
    for_vectors(width, [&](int64_t i, int64_t count) {
      const Floats apart = load_part(x + i, count) - mean;
      square += count == kWidth ? apart * apart : first_lanes(apart * apart, count);
    });
    const float inverse = 1.0F / __builtin_sqrtf(sum_of(square) * per_width + static_cast<float>(args.eps));
    for_vectors(width, [&](int64_t i, int64_t count) {
      const Floats y = (load_part(x + i, count) - mean) * inverse;
      store_part(args.y + r * width + i,
                 y * load_part(args.weight + i, count) + load_part(args.bias + i, count), count);
    });
    args.mean[r] = mean;
    args.inverse[r] = inverse;
  }
}

void layer_norm_backward(const LayerNormBackward& args) {
  const int64_t width = args.width;
  const float per_width = 1.0F / static_cast<float>(width);
  for (int64_t r = 0; r < args.rows; ++r) {
    const float *x = args.x + r * width, *dy = args.dy + r * width;
    const float mean = args.mean[r], inverse = args.inverse[r];
    Floats sum = {}, cross = {};
    for_vectors(width, [&](int64_t i, int64_t count) {
      const Floats g = load_part(dy + i, count), normed = (load_part(x + i, count) - mean) * inverse;
      const Floats weighted = g * load_part(args.weight + i, count);
      sum += weighted;
      cross += weighted * normed;  // zero in lanes beyond the row, as g is
      store_part(args.dweight + i, load_part(args.dweight + i, count) + g * normed, count);
      store_part(args.dbias + i, load_part(args.dbias + i, count) + g, count);
    });
    const float mean_sum = sum_of(sum) * per_width, mean_cross = sum_of(cross) * per_width;
    for_vectors(width, [&](int64_t i, int64_t count) {
      const Floats normed = (load_part(x + i, count) - mean) * inverse;
      const Floats weighted = load_part(dy + i, count) * load_part(args.weight + i, count);
      const Floats dx = (weighted - mean_sum - normed * mean_cross) * inverse;
      store_part(args.dx + r * width + i, dx + load_part(args.dresidual + r * width + i, count), count);
    });
  }
}

void layer_norm_panels(const LayerNormPanels& args) {
  for (int64_t r = 0; r < args.rows; ++r) {
    const float* x = args.x + r * args.width;
    const float mean = args.mean[r], inverse = args.inverse[r];
    to_panels(args.panels, args.rows, r, args.width, [&](int64_t i, int64_t count) {
      const Floats y = (load_part(x + i, count) - mean) * inverse;
      return y * load_part(args.weight + i, count) + load_part(args.bias + i, count);
    });
  }
}

void gelu_forward(const float* u, float* y, int64_t count) {
  for_vectors(count, [&](int64_t i, int64_t some) { store_part(y + i, gelu(load_part(u + i, some)), some); });
}

void gelu_backward(const GeluBackward& args) {
  for (int64_t r = 0; r < args.rows; ++r) {
    const float* u = args.u + r * args.width;
    float* dy = args.dy + r * args.width;
    to_panels(args.panels, args.rows, r, args.width, [&](int64_t i, int64_t count) {
      const Floats x = load_part(u + i, count);
      const Floats below = 0.5F + 0.5F * error_function(x * 0.707106781F);
      const Floats density = 0.398942280F * exponential(-0.5F * x * x);
      store_part(dy + i, load_part(dy + i, count) * (below + x * density), count);
      return x * below;
    });
  }
}

void add_column_sums(const float* x, int64_t rows, int64_t width, float* sums) {
  for_vectors(width, [&](int64_t i, int64_t count) {
    Floats sum = load_part(sums + i, count);
    for (int64_t r = 0; r < rows; ++r) sum += load_part(x + r * width + i, count);
    store_part(sums + i, sum, count);
  });
}

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
