// Matrix products in tiles of five rows and one panel, whose sums stay in registers while the panel streams
// by: 20 accumulators, four vectors of weights, one value of x for all lanes. A step of the tile is 20
// multiply-adds for nine loads, which leaves the multiplying units as the only limit.
//
// Why not the library's: at a few hundred rows its products themselves are within some percent of this, but
// every call looks up, checks and allocates for longer than a short product takes.
#include "kernels/cpu/simd/product.h"

#include "kernels/cpu/simd/vector.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {

#if LTRP_SIMD_BYTES == 64

namespace {

constexpr int kRows = 5;                                     // of a tile
constexpr int kVectors = static_cast<int>(kPanel) / kWidth;  // of a panel

// One encoding's values, accumulators and multiply-add: y += x * w for `kDepth` inputs a lane. Written as
// instructions, because the compiler copies accumulators about when it is given the intrinsics, and because
// this file is compiled for processors without them as well.
struct Float32 {
  using Value = float;
  using Sums = Floats;
  static constexpr int kDepth = 1;
  static Floats spread(const float* x) { return fill(*x); }
  static void multiply_add(Floats& y, Floats x, Floats w) { y += x * w; }
};

struct Bfloat16 {
  using Value = uint16_t;
  using Sums = Floats;
  static constexpr int kDepth = 2;
  static Floats spread(const uint16_t* x) {
    float pair;
    __builtin_memcpy(&pair, x, sizeof pair);
    return (Floats)_mm512_set1_ps(pair);
  }
  static void multiply_add(Floats& y, Floats x, Floats w) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(y) : "v"(x), "v"(w));
  }
};

struct Uint8 {
  using Value = uint8_t;
  using Sums = Ints;
  static constexpr int kDepth = 4;
  static Ints spread(const uint8_t* x) {
    int32_t four;
    __builtin_memcpy(&four, x, sizeof four);
    return four - Ints{};
  }
  static void multiply_add(Ints& y, Ints x, Ints w) { asm("vpdpbusd %2, %1, %0" : "+v"(y) : "v"(x), "v"(w)); }
};

inline Halves to_bfloat16(Floats x, bool native) {
  if (!native) return narrow(x);
  Halves result;
  asm("vcvtneps2bf16 %1, %0" : "=v"(result) : "v"(x));
  return result;
}

// Stores one vector of sums; `count` of its outputs exist.
inline void finish(const MatrixProduct& args, Floats sum, int64_t row, int64_t output, int64_t count) {
  if (args.bias != nullptr) sum += load_part(args.bias + output, count);
  if (args.gelu) sum = gelu(sum);
  const int64_t at = row * args.outputs + output;
  if (args.residual != nullptr) sum += load_part(args.residual + at, count);
  store_part(static_cast<float*>(args.y) + at, sum, count);
}

inline void finish_rounded(const MatrixProduct& args, Floats sum, int64_t row, int64_t output,
                           int64_t count) {
  const Halves rounded = to_bfloat16(sum, args.native_bfloat16);
  auto* y = static_cast<uint16_t*>(args.y) + row * args.outputs + output;
  __builtin_memcpy(y, &rounded, static_cast<unsigned long>(count) * 2);
}

// Where the next panel's weights lie, brought nearer while this one's are multiplied: a line of them every
// `every` steps.
struct Ahead {
  const float* weights = nullptr;  // the part that falls to this tile
  int64_t every = 1;
};

template <typename Type, int kCount>
inline void tile(const MatrixProduct& args, int64_t row, int64_t panel, Ahead ahead) {
  using Value = typename Type::Value;
  typename Type::Sums sums[kCount][kVectors] = {};
  const Value* x = static_cast<const Value*>(args.x) + row * args.inputs;
  const int64_t steps = args.inputs / Type::kDepth;
  const auto* w = static_cast<const float*>(args.panels) + panel * steps * kPanel;
  for (int64_t step = 0; step < steps;) {
    __builtin_prefetch(ahead.weights, 0, 2);
    ahead.weights += kWidth;
    const int64_t stop = steps < step + ahead.every ? steps : step + ahead.every;
    for (; step < stop; ++step, x += Type::kDepth, w += kPanel) {
      decltype(Type::spread(x)) weights[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) __builtin_memcpy(&weights[v], w + v * kWidth, sizeof weights[v]);
#pragma GCC unroll 5
      for (int r = 0; r < kCount; ++r) {
        const auto value = Type::spread(x + r * args.inputs);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) Type::multiply_add(sums[r][v], value, weights[v]);
      }
    }
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) {
    const int64_t output = panel * kPanel + v * kWidth, left = args.outputs - output;
    if (left <= 0) return;
    const int64_t count = left < kWidth ? left : static_cast<int64_t>(kWidth);
#pragma GCC unroll 5
    for (int r = 0; r < kCount; ++r) {
      if constexpr (Type::kDepth == 1) {
        finish(args, sums[r][v], row + r, output, count);
      } else if constexpr (Type::kDepth == 2) {
        finish_rounded(args, sums[r][v], row + r, output, count);
      } else {
        Ints offset;
        __builtin_memcpy(&offset, args.sums + output, sizeof offset);
        offset *= args.zero_point;
        finish_rounded(args, __builtin_convertvector(sums[r][v] - offset, Floats) * load(args.scale + output),
                       row + r, output, count);
      }
    }
  }
}

template <typename Type>
void tiles(const MatrixProduct& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
           int64_t panel_end) {
  const int64_t steps = args.inputs / Type::kDepth, per_panel = steps * kPanel;
  const int64_t tiles_of_panel = (row_end - row_begin + kRows - 1) / kRows;
  Ahead ahead;
  ahead.every = tiles_of_panel / kVectors > 1 ? tiles_of_panel / kVectors : 1;
  const int64_t each = (steps + ahead.every - 1) / ahead.every * kWidth;
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    // The last panel's successor is some other product's affair.
    ahead.weights =
        static_cast<const float*>(args.panels) + (panel + 1 < panel_end ? panel + 1 : panel) * per_panel;
    for (int64_t row = row_begin; row < row_end; row += kRows, ahead.weights += each) {
      switch (row_end - row) {
        case 1:
          tile<Type, 1>(args, row, panel, ahead);
          break;
        case 2:
          tile<Type, 2>(args, row, panel, ahead);
          break;
        case 3:
          tile<Type, 3>(args, row, panel, ahead);
          break;
        case 4:
          tile<Type, 4>(args, row, panel, ahead);
          break;
        default:
          tile<Type, kRows>(args, row, panel, ahead);
      }
    }
  }
}

}  // namespace

void product(const MatrixProduct& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
             int64_t panel_end) {
  switch (args.encoding) {
    case Encoding::kUint8:
      return tiles<Uint8>(args, row_begin, row_end, panel_begin, panel_end);
    case Encoding::kBfloat16:
      return tiles<Bfloat16>(args, row_begin, row_end, panel_begin, panel_end);
    default:
      return tiles<Float32>(args, row_begin, row_end, panel_begin, panel_end);
  }
}

#endif

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
