// Matrix products in tiles of a few rows and one panel, whose sums stay in registers while the panel streams
// by. With 64-byte vectors that is five rows of 64 outputs: 20 accumulators, four vectors of weights, one
// value of x for all lanes, nine loads for 20 multiply-adds. With 16 registers it is six rows of two vectors.
//
// Every sum is taken in one order, that of the inputs, whatever the tile, the rows around it and the thread:
// the bits of a row depend on the row and the weights alone.
#include "kernels/cpu/simd/product.h"

#include "kernels/cpu/simd/encodings.h"
#include "kernels/cpu/simd/tiles.h"
#include "kernels/cpu/simd/vector.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {

namespace {

constexpr int kRows = LTRP_SIMD_BYTES == 64 ? 5 : 6;  // of a tile
constexpr int kLine = 16;                             // floats in a cache line
// Inputs of a float32 panel that pass at a time: with 64-byte vectors a block of the panel fits the cache of
// a core, with shorter ones that closest to it.
constexpr int64_t kBlock = LTRP_SIMD_BYTES == 64 ? 2560 : 384;

// What follows the sums of one row of a float32 tile, which lie in y. `count(v)`: outputs of the panel's
// vector v. All vectors pass together: one alone would wait for its own polynomials and division.
template <typename Count>
inline void finish_row(const MatrixProduct& args, int64_t row, int64_t first, Count count) {
  const int64_t at = row * args.outputs + first;
  float* y = static_cast<float*>(args.y) + at;
  Floats sums[kVectors];
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) sums[v] = load_part(y + v * kWidth, count(v));
  if (args.bias != nullptr) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[v] += load_part(args.bias + first + v * kWidth, count(v));
  }
  if (args.gelu) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[v] = gelu(sums[v]);
  }
  if (args.residual != nullptr) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sums[v] += load_part(args.residual + at + v * kWidth, count(v));
  }
#pragma GCC unroll 4
  for (int v = 0; v < kVectors; ++v) store_part(y + v * kWidth, sums[v], count(v));
}

// Which of the two loops a row takes depends on its panel alone, so that it is the same arithmetic whatever
// tile the row was in.
__attribute__((noinline)) void finish(const MatrixProduct& args, int64_t row, int64_t end, int64_t panel) {
  const int64_t first = panel * kPanel;
  const int64_t outputs = args.outputs - first;
  if (outputs >= kPanel) {
    for (; row < end; ++row) finish_row(args, row, first, [](int) { return static_cast<int64_t>(kWidth); });
    return;
  }
  const auto count = [outputs](int v) {
    const int64_t left = outputs - v * kWidth;
    return left < 0 ? int64_t{0} : left < kWidth ? left : static_cast<int64_t>(kWidth);
  };
  for (; row < end; ++row) finish_row(args, row, first, count);
}

// Where the next panel's weights lie, brought nearer while this one's are multiplied: a line of them every
// `every` steps.
struct Ahead {
  const float* weights = nullptr;  // the part that falls to this tile
  int64_t every = 1;
};

// The inputs of a panel that pass now, in steps of a lane's inputs.
struct Block {
  int64_t begin = 0, end = 0;
  int64_t all = 0;
};

template <typename Type, int kCount>
inline void tile(const MatrixProduct& args, const Block& block, int64_t row, int64_t panel, Ahead ahead) {
  using Value = typename Type::Value;
  using Result = typename Type::Result;
  typename Type::Sums sums[kCount][kVectors] = {};
  const int64_t first = panel * kPanel;
  const int64_t outputs = args.outputs - first < kPanel ? args.outputs - first : static_cast<int64_t>(kPanel);
  Result* y = static_cast<Result*>(args.y) + row * args.outputs + first;
  Result edge[kPanel] = {};  // a row of a panel that does not have all its outputs
  if constexpr (Type::kDepth == 1) {
    if (block.begin > 0) {
#pragma GCC unroll 6
      for (int r = 0; r < kCount; ++r) {
        const Result* from = y + r * args.outputs;
        if (outputs < kPanel) from = copied(edge, from, outputs);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) sums[r][v] = load(from + v * kWidth);
      }
    }
  }
  const Value* x = static_cast<const Value*>(args.x) + row * args.inputs + block.begin * Type::kDepth;
  const auto* w = static_cast<const float*>(args.panels) + (panel * block.all + block.begin) * kPanel;
  for (int64_t step = block.begin; step < block.end;) {
    __builtin_prefetch(ahead.weights, 0, 2);
    ahead.weights += kLine;
    const int64_t stop = block.end < step + ahead.every ? block.end : step + ahead.every;
    for (; step < stop; ++step, x += Type::kDepth, w += kPanel) {
      typename Type::Operand weights[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) __builtin_memcpy(&weights[v], w + v * kWidth, sizeof weights[v]);
#pragma GCC unroll 6
      for (int r = 0; r < kCount; ++r) {
        const auto value = Type::spread(x + r * args.inputs);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; ++v) Type::multiply_add(sums[r][v], value, weights[v]);
      }
    }
  }
#pragma GCC unroll 6
  for (int r = 0; r < kCount; ++r) {
    Result* to = outputs < kPanel ? edge : y + r * args.outputs;
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) {
      const auto result = Type::result(sums[r][v], args, first + v * kWidth);
      __builtin_memcpy(to + v * kWidth, &result, sizeof result);
    }
    if (outputs < kPanel) copied(y + r * args.outputs, edge, outputs);
  }
}

template <typename Type, int kCount = kRows>
inline void tile_of(int64_t count, const MatrixProduct& args, const Block& block, int64_t row, int64_t panel,
                    Ahead ahead) {
  if constexpr (kCount > 1) {
    if (count < kCount) return tile_of<Type, kCount - 1>(count, args, block, row, panel, ahead);
  }
  tile<Type, kCount>(args, block, row, panel, ahead);
}

template <typename Type>
void tiles(const MatrixProduct& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
           int64_t panel_end) {
  Block block;
  block.all = args.inputs / Type::kDepth;
  const int64_t tiles_of_panel = (row_end - row_begin + kRows - 1) / kRows;
  // The other encodings' sums are kept in registers to their end: y is narrower than they are.
  const int64_t blocks = Type::kDepth == 1 && block.all > kBlock ? (block.all + kBlock - 1) / kBlock : 1;
  Ahead ahead;
  ahead.every = tiles_of_panel * kLine / kPanel > 1 ? tiles_of_panel * kLine / kPanel : 1;
  const bool finished = Type::kDepth == 1 && (args.bias != nullptr || args.gelu || args.residual != nullptr);
  for (int64_t part = 0; part < blocks; ++part) {
    block.begin = block.all * part / blocks;
    block.end = block.all * (part + 1) / blocks;
    const int64_t each = (block.end - block.begin + ahead.every - 1) / ahead.every * kLine;
    for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
      // The last panel's successor is some other product's affair.
      const int64_t next = panel + 1 < panel_end ? panel + 1 : panel;
      ahead.weights = static_cast<const float*>(args.panels) + (next * block.all + block.begin) * kPanel;
      for (int64_t row = row_begin; row < row_end; row += kRows, ahead.weights += each) {
        tile_of<Type>(row_end - row, args, block, row, panel, ahead);
        if (finished && part + 1 == blocks)
          finish(args, row, row + kRows < row_end ? row + kRows : row_end, panel);
      }
    }
  }
}

}  // namespace

void product(const MatrixProduct& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
             int64_t panel_end) {
#ifdef LTRP_SIMD_TILES
  if (args.native_tiles && args.encoding != Encoding::kFloat32)
    return tile_product<NativeTiles>(args, row_begin, row_end, panel_begin, panel_end);
#endif
  switch (args.encoding) {
    case Encoding::kUint8:
#ifdef LTRP_SIMD_NATIVE_PRODUCTS
      if (args.native_int8) return tiles<NativeUint8>(args, row_begin, row_end, panel_begin, panel_end);
#endif
      return tiles<Uint8>(args, row_begin, row_end, panel_begin, panel_end);
    case Encoding::kBfloat16:
#if defined(LTRP_SIMD_NATIVE_PRODUCTS) && LTRP_SIMD_BYTES == 64
      if (args.native_bfloat16)
        return tiles<NativeBfloat16>(args, row_begin, row_end, panel_begin, panel_end);
#endif
      return tiles<Bfloat16>(args, row_begin, row_end, panel_begin, panel_end);
    default:
      return tiles<Float32>(args, row_begin, row_end, panel_begin, panel_end);
  }
}

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
