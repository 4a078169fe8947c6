// Products for training: any stride of the left-hand side, sums that go on where they stopped. A tile is two
// vectors wide, so that what one pass reads of a panel stays in the first-level cache, and as many rows high
// as registers hold sums: with 32 of them 14 rows, 16 loads for 28 multiply-adds.
//
// Every sum is taken in the order of the inputs, whatever the tile.
#include "kernels/cpu/simd/training.h"
#include "kernels/cpu/simd/vector.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {
namespace {

constexpr int kPanel = static_cast<int>(kTrainingPanel);
constexpr int kVectors = kPanel / kWidth;
constexpr int kRows = LTRP_SIMD_BYTES == 64 ? 14 : 6;
constexpr int kGroup = 7;  // rows that one pointer and three strides reach

// A step of a product: kDepth inputs of a row, four bytes of the left-hand side.
struct Float32 {
  static constexpr int kDepth = 1;
  static Floats spread(const char* p) {
    float x;
    __builtin_memcpy(&x, p, sizeof x);
    return fill(x);
  }
  static Floats multiply_add(Floats y, Floats x, Floats w) { return y + x * w; }
};

// The second input of a pair first, as AVX512_BF16 does it; products of two bfloat16 are exact.
struct Bfloat16 {
  static constexpr int kDepth = 2;
  static Floats spread(const char* p) {
    uint32_t word;
    __builtin_memcpy(&word, p, sizeof word);
    return (Floats)(word - Words{});
  }
  static Floats multiply_add(Floats y, Floats x, Floats w) {
    y += (Floats)((Words)x & 0xffff0000) * (Floats)((Words)w & 0xffff0000);
    return y + (Floats)((Words)x << 16) * (Floats)((Words)w << 16);
  }
};
#if defined(LTRP_SIMD_NATIVE_PRODUCTS) && LTRP_SIMD_BYTES == 64
// Written as such for the reasons of encodings.h.
struct NativeBfloat16 : Bfloat16 {
  static Floats multiply_add(Floats y, Floats x, Floats w) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(y) : "v"(x), "v"(w));
    return y;
  }
};
#endif

// The left-hand side of a tile: bytes from row to row, and from step to step.
struct Left {
  const char* first;
  const char* second;  // kGroup rows on
  int64_t one, three, five;
};

template <int kRow>
inline const char* row_of(const Left& a) {
  constexpr int kIn = kRow % kGroup;
  const char* p = kRow < kGroup ? a.first : a.second;
  if constexpr (kIn == 0) return p;
  if constexpr (kIn == 1) return p + a.one;
  if constexpr (kIn == 2) return p + 2 * a.one;
  if constexpr (kIn == 3) return p + a.three;
  if constexpr (kIn == 4) return p + 4 * a.one;
  if constexpr (kIn == 5) return p + a.five;
  return p + 2 * a.three;
}

template <typename Type, bool kTransposed, int... kRow>
inline void step(Floats (*sums)[kVectors], const Left& a, const float* b,
                 std::integer_sequence<int, kRow...>) {
  Floats weights[kVectors];
#pragma GCC unroll 2
  for (int v = 0; v < kVectors; ++v) weights[v] = load(b + v * kWidth);
  const auto one = [&](Floats * sum, const char* at) __attribute__((always_inline)) {
    const Floats x = Type::spread(at);
#pragma GCC unroll 2
    for (int v = 0; v < kVectors; ++v) sum[v] = Type::multiply_add(sum[v], x, weights[v]);
  };
  (one(sums[kRow], kTransposed ? a.first + kRow * 4 : row_of<kRow>(a)), ...);
}

// f(row, vector) for all sums of a tile, with constants: sums that are indexed by variables would lie in
// memory.
template <int kCount, typename Function>
inline void each_sum(const Function& f) {
  const auto all = [&f]<int... kSum>(std::integer_sequence<int, kSum...>) __attribute__((always_inline)) {
    (f(kSum / kVectors, kSum % kVectors), ...);
  };
  all(std::make_integer_sequence<int, kCount * kVectors>());
}

template <typename Type, bool kTransposed, int kCount>
[[gnu::noinline]] void tile(const PanelProduct& p, int64_t row, int64_t panel) {
  constexpr auto kAll = std::make_integer_sequence<int, kCount>();
  const int64_t steps = (p.inputs + Type::kDepth - 1) / Type::kDepth;
  const int64_t first = panel * kPanel;
  const int64_t outputs = p.outputs - first < kPanel ? p.outputs - first : static_cast<int64_t>(kPanel);
  float* c = p.c + row * p.c_row + first;
  Floats sums[kCount][kVectors];
  if (!p.accumulate) {
    each_sum<kCount>([&](int r, int v) __attribute__((always_inline)) { sums[r][v] = Floats{}; });
  } else if (outputs == kPanel) {
    each_sum<kCount>([&](int r, int v)
                         __attribute__((always_inline)) { sums[r][v] = load(c + r * p.c_row + v * kWidth); });
  } else {
    float edge[kCount][kPanel] = {};
    for (int r = 0; r < kCount; ++r)
      for (int64_t i = 0; i < outputs; ++i) edge[r][i] = c[r * p.c_row + i];
    each_sum<kCount>([&](int r, int v)
                         __attribute__((always_inline)) { sums[r][v] = load(edge[r] + v * kWidth); });
  }
  const int64_t row_bytes = p.a_row * (4 / Type::kDepth);
  const auto* b = static_cast<const float*>(p.b) + panel * kPanel * steps;
  Left a = {};
  if constexpr (kTransposed) {
    a.first = static_cast<const char*>(p.a) + row * 4;
    const int64_t bytes = p.a_row * 4;
    for (int64_t k = 0; k < steps; ++k, a.first += bytes, b += kPanel) step<Type, true>(sums, a, b, kAll);
  } else {
    a.first = static_cast<const char*>(p.a) + row * row_bytes;
    a.second = a.first + kGroup * row_bytes;
    a.one = row_bytes;
    a.three = 3 * row_bytes;
    a.five = 5 * row_bytes;
    for (int64_t k = 0; k < steps; ++k, a.first += 4, a.second += 4, b += kPanel)
      step<Type, false>(sums, a, b, kAll);
  }
  const float* bias = p.bias == nullptr ? nullptr : p.bias + first;
  const float* residual = p.residual == nullptr ? nullptr : p.residual + row * p.c_row + first;
  if (outputs == kPanel) {
    each_sum<kCount>([&](int r, int v) __attribute__((always_inline)) {
      const int64_t at = r * p.c_row + v * kWidth;
      Floats sum = sums[r][v];
      if (bias != nullptr) sum += load(bias + v * kWidth);
      if (residual != nullptr) sum += load(residual + at);
      store(c + at, sum);
    });
    return;
  }
  float edge[kCount][kPanel];
  each_sum<kCount>([&](int r, int v)
                       __attribute__((always_inline)) { store(edge[r] + v * kWidth, sums[r][v]); });
  for (int r = 0; r < kCount; ++r) {
    for (int64_t i = 0; i < outputs; ++i) {
      float sum = edge[r][i];
      const int64_t at = r * p.c_row + i;
      if (bias != nullptr) sum += bias[i];
      if (residual != nullptr) sum += residual[at];
      c[at] = sum;
    }
  }
}

template <typename Type, bool kTransposed, int kCount = kRows>
inline void tile_of(int64_t count, const PanelProduct& p, int64_t row, int64_t panel) {
  if constexpr (kCount > 1) {
    if (count < kCount) return tile_of<Type, kTransposed, kCount - 1>(count, p, row, panel);
  }
  tile<Type, kTransposed, kCount>(p, row, panel);
}

template <typename Type, bool kTransposed>
void tiles(const PanelProduct& p) {
  // Of nearly the same height: a low one takes as many steps as a high one.
  const int64_t count = (p.rows + kRows - 1) / kRows;
  for (int64_t panel = 0; panel * kPanel < p.outputs; ++panel) {
    for (int64_t t = 0; t < count; ++t) {
      const int64_t row = p.rows * t / count;
      tile_of<Type, kTransposed>(p.rows * (t + 1) / count - row, p, row, panel);
    }
  }
}

}  // namespace

void panel_product(const PanelProduct& p) {
  if (p.type == Operand::kBfloat16) {
#if defined(LTRP_SIMD_NATIVE_PRODUCTS) && LTRP_SIMD_BYTES == 64
    if (p.native) return tiles<NativeBfloat16, false>(p);
#endif
    return tiles<Bfloat16, false>(p);
  }
  p.transposed ? tiles<Float32, true>(p) : tiles<Float32, false>(p);
}

void pack_panels(const Panels& p) {
  float* to = p.panels;
  for (int64_t first = 0; first < p.outputs; first += kPanel) {
    const int64_t count = p.outputs - first < kPanel ? p.outputs - first : static_cast<int64_t>(kPanel);
    if (!p.transposed) {
      const float* from = p.b + first;
      for (int64_t k = 0; k < p.inputs; ++k, from += p.b_row, to += kPanel) {
        if (count == kPanel) {
#pragma GCC unroll 2
          for (int v = 0; v < kVectors; ++v) store(to + v * kWidth, load(from + v * kWidth));
        } else {
          for (int64_t i = 0; i < count; ++i) to[i] = from[i];
          for (int64_t i = count; i < kPanel; ++i) to[i] = 0;
        }
      }
      continue;
    }
    for (int64_t k = 0; k < p.inputs; k += kWidth) {
      const int64_t some = p.inputs - k < kWidth ? p.inputs - k : static_cast<int64_t>(kWidth);
      for (int v = 0; v < kVectors; ++v) {
        Floats block[kWidth];
        for (int i = 0; i < kWidth; ++i) {
          const int64_t n = v * kWidth + i;
          block[i] = n < count ? load_part(p.b + (first + n) * p.b_row + k, some) : Floats{};
        }
        transpose(block);
        for (int64_t i = 0; i < some; ++i) store(to + (k + i) * kPanel + v * kWidth, block[i]);
      }
    }
    to += p.inputs * kPanel;
  }
}

void round_panels(const float* panels, int64_t inputs, int64_t outputs, uint16_t* rounded) {
  for (int64_t first = 0; first < outputs; first += kPanel) {
    for (int64_t k = 0; k < inputs; k += 2, panels += 2 * kPanel, rounded += 2 * kPanel) {
      for (int v = 0; v < kPanel; v += kWidth) {
        const Floats second = k + 1 < inputs ? load(panels + kPanel + v) : Floats{};
        const Words pairs = rounded_words(load(panels + v)) | rounded_words(second) << 16;
        __builtin_memcpy(rounded + 2 * v, &pairs, sizeof pairs);
      }
    }
    if (inputs % 2 != 0) panels -= kPanel;
  }
}

void round_rows_of(const float* x, int64_t rows, int64_t width, uint16_t* rounded) {
  for (int64_t r = 0; r < rows; ++r, x += width, rounded += width + width % 2) {
    int64_t i = 0;
    for (; i + kWidth <= width; i += kWidth) {
      const Halves part = narrow(load(x + i));
      __builtin_memcpy(rounded + i, &part, sizeof part);
    }
    if (i < width) {
      const Halves part = narrow(load_some(x + i, width - i));
      __builtin_memcpy(rounded + i, &part, static_cast<unsigned long>(width - i) * 2);
    }
    if (width % 2 != 0) rounded[width] = 0;
  }
}

void round_columns(const float* x, int64_t rows, int64_t width, uint16_t* rounded) {
  const int64_t row = rows + rows % 2;
  for (int64_t i = 0; i < width; i += kWidth) {
    const int64_t columns = width - i < kWidth ? width - i : static_cast<int64_t>(kWidth);
    for (int64_t r = 0; r < rows; r += kWidth) {
      const int64_t some = rows - r < kWidth ? rows - r : static_cast<int64_t>(kWidth);
      const int64_t filled = row - r < kWidth ? row - r : static_cast<int64_t>(kWidth);
      Floats block[kWidth];
      for (int j = 0; j < kWidth; ++j)
        block[j] = j < some ? load_part(x + (r + j) * width + i, columns) : Floats{};
      transpose(block);
      for (int64_t j = 0; j < columns; ++j) {
        const Halves part = narrow(block[j]);
        __builtin_memcpy(rounded + (i + j) * row + r, &part, static_cast<unsigned long>(filled) * 2);
      }
    }
  }
}

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
