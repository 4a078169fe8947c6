// Matrix products in the tiles of AMX: registers of 16 rows of 64 bytes, of which one instruction multiplies
// two and adds the result to a third. A panel is read where it lies: 16 of its outputs, 16 steps of inputs
// deep, are a tile whose rows are a panel's width apart.
//
// The tiles are a parameter, so that a test can run the same code on a model of them where no processor has
// any. The bits of a row depend neither on the rows beside it nor on how many there are: for each of its
// sums an instruction does the same.
//
// Source: Intel 64 and IA-32 Architectures Software Developer's Manual, volume 1 chapter 18 (configuration:
// palette 1, bytes of a row at 16, rows at 48), volume 2 (TDPBF16PS, TDPBUSD).
#pragma once

#include "kernels/cpu/simd/encodings.h"

#if LTRP_SIMD_BYTES == 64

namespace ltrp::simd::LTRP_SIMD_LEVEL {
namespace {

constexpr int kTileRows = 16;
constexpr int kTileBytes = 64;  // of a row
constexpr int kTileOutputs = 16;
// Sums of 32 rows and 32 outputs are in tiles 0 to 3, rows of x in 4 and 5, weights in 6 and 7: four loads
// for four products, which take longer.
constexpr int kBlockRows = 2 * kTileRows;
constexpr int kBlockOutputs = 2 * kTileOutputs;
constexpr int kX = 4, kWeights = 6;

// What the configuration instruction reads.
struct TileShapes {
  uint8_t palette = 1;
  uint8_t start_row = 0;
  uint8_t reserved[14] = {};
  uint16_t row_bytes[16] = {};
  uint8_t rows[16] = {};

  // For blocks of that many rows; both tiles of a pair have at least one.
  explicit TileShapes(int64_t block_rows) {
    for (int tile = 0; tile < 8; ++tile) {
      row_bytes[tile] = kTileBytes;
      rows[tile] = kTileRows;
    }
    const int64_t upper = block_rows < kTileRows ? block_rows : static_cast<int64_t>(kTileRows);
    const int64_t lower = block_rows > kTileRows ? block_rows - kTileRows : 1;
    rows[0] = rows[1] = rows[kX] = static_cast<uint8_t>(upper);
    rows[2] = rows[3] = rows[kX + 1] = static_cast<uint8_t>(lower);
  }
};
static_assert(sizeof(TileShapes) == 64);

#ifdef LTRP_SIMD_TILES
// Written as assembly, because this file is compiled for processors without tiles as well.
struct NativeTiles {
  static void configure(const TileShapes& shapes) { asm volatile("ldtilecfg %0" ::"m"(shapes)); }
  static void release() { asm volatile("tilerelease"); }
  template <int kTile>
  static void zero() {
    asm volatile("tilezero %%tmm%c0" ::"i"(kTile));
  }
  template <int kTile>
  static void load(const void* from, int64_t stride) {
    asm volatile("tileloadd (%0,%1,1), %%tmm%c2" ::"r"(from), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kTile>
  static void store(void* to, int64_t stride) {
    asm volatile("tilestored %%tmm%c2, (%0,%1,1)" ::"r"(to), "r"(stride), "i"(kTile) : "memory");
  }
  template <int kSum, int kLeft, int kRight>
  static void multiply_add(Bfloat16) {
    asm volatile("tdpbf16ps %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kLeft), "i"(kRight));
  }
  template <int kSum, int kLeft, int kRight>
  static void multiply_add(Uint8) {
    asm volatile("tdpbusd %%tmm%c2, %%tmm%c1, %%tmm%c0" ::"i"(kSum), "i"(kLeft), "i"(kRight));
  }
};
#endif

// One step of a block: x and weights of 64 bytes of inputs.
template <typename Tiles, typename Type, bool kTwo>
inline void tile_step(const char* x, int64_t x_stride, const char* w, int64_t w_stride) {
  Tiles::template load<kWeights>(w, w_stride);
  Tiles::template load<kX>(x, x_stride);
  Tiles::template multiply_add<0, kX, kWeights>(Type());
  Tiles::template load<kWeights + 1>(w + kTileBytes, w_stride);
  Tiles::template multiply_add<1, kX, kWeights + 1>(Type());
  if constexpr (kTwo) {
    Tiles::template load<kX + 1>(x + kTileRows * x_stride, x_stride);
    Tiles::template multiply_add<2, kX + 1, kWeights>(Type());
    Tiles::template multiply_add<3, kX + 1, kWeights + 1>(Type());
  }
}

// The last inputs, where they do not fill a tile: copies, filled up with zeros.
struct LastInputs {
  alignas(64) char x[kBlockRows][kTileBytes] = {};
  alignas(64) char w[kTileRows][2 * kTileBytes] = {};
};

template <typename Tiles, typename Type, bool kTwo>
void tile_block(const MatrixProduct& args, int64_t row, int64_t rows, int64_t panel, int64_t half) {
  using Value = typename Type::Value;
  using Result = typename Type::Result;
  constexpr int64_t kPanelBytes = kPanel * 4;  // of one step of a lane's inputs
  const int64_t bytes = args.inputs * static_cast<int64_t>(sizeof(Value)),
                whole = bytes / kTileBytes * kTileBytes;
  const char* x = static_cast<const char*>(args.x) + row * bytes;
  const char* w =
      static_cast<const char*>(args.panels) + panel * (bytes / 4) * kPanelBytes + half * kBlockOutputs * 4;
  Tiles::template zero<0>();
  Tiles::template zero<1>();
  if constexpr (kTwo) {
    Tiles::template zero<2>();
    Tiles::template zero<3>();
  }
  for (int64_t at = 0; at < whole; at += kTileBytes)
    tile_step<Tiles, Type, kTwo>(x + at, bytes, w + at / 4 * kPanelBytes, kPanelBytes);
  if (whole < bytes) {
    LastInputs last;
    for (int64_t r = 0; r < rows; ++r)
      __builtin_memcpy(last.x[r], x + r * bytes + whole, static_cast<unsigned long>(bytes - whole));
    for (int64_t k = 0; k < (bytes - whole) / 4; ++k)
      __builtin_memcpy(last.w[k], w + (whole / 4 + k) * kPanelBytes, sizeof last.w[k]);
    tile_step<Tiles, Type, kTwo>(last.x[0], kTileBytes, last.w[0], 2 * kTileBytes);
  }
  alignas(64) char sums[kBlockRows][kBlockOutputs * 4];
  constexpr int64_t kStride = kBlockOutputs * 4;
  Tiles::template store<0>(sums[0], kStride);
  Tiles::template store<1>(sums[0] + kTileBytes, kStride);
  if constexpr (kTwo) {
    Tiles::template store<2>(sums[kTileRows], kStride);
    Tiles::template store<3>(sums[kTileRows] + kTileBytes, kStride);
  }

  const int64_t first = panel * kPanel + half * kBlockOutputs;
  const int64_t outputs =
      args.outputs - first < kBlockOutputs ? args.outputs - first : static_cast<int64_t>(kBlockOutputs);
  for (int64_t r = 0; r < rows; ++r) {
    Result* y = static_cast<Result*>(args.y) + (row + r) * args.outputs + first;
    Result edge[kBlockOutputs];
    Result* to = outputs < kBlockOutputs ? edge : y;
    for (int64_t i = 0; i < kBlockOutputs; i += kWidth) {
      typename Type::Sums sum;
      __builtin_memcpy(&sum, sums[r] + i * 4, sizeof sum);
      const auto result = Type::result(sum, args, first + i);
      __builtin_memcpy(to + i, &result, sizeof result);
    }
    if (outputs < kBlockOutputs) copied(y, edge, outputs);
  }
}

template <typename Tiles, typename Type>
void tile_blocks(const MatrixProduct& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
                 int64_t panel_end) {
  const int64_t last = (row_end - row_begin) % kBlockRows, whole_end = row_end - last;
  int64_t shape = 0;
  const auto take_shape = [&](int64_t rows) {
    if (shape != rows) Tiles::configure(TileShapes(rows));
    shape = rows;
  };
  for (int64_t panel = panel_begin; panel < panel_end; ++panel) {
    for (int64_t half = 0; half * kBlockOutputs < kPanel; ++half) {
      if (panel * kPanel + half * kBlockOutputs >= args.outputs) break;
      for (int64_t row = row_begin; row < whole_end; row += kBlockRows) {
        take_shape(kBlockRows);
        tile_block<Tiles, Type, true>(args, row, kBlockRows, panel, half);
      }
      if (last == 0) continue;
      take_shape(last);
      if (last > kTileRows) {
        tile_block<Tiles, Type, true>(args, whole_end, last, panel, half);
      } else {
        tile_block<Tiles, Type, false>(args, whole_end, last, panel, half);
      }
    }
  }
  Tiles::release();
}

// As product(), of bfloat16 or int8.
template <typename Tiles>
void tile_product(const MatrixProduct& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
                  int64_t panel_end) {
  if (args.encoding == Encoding::kUint8) {
    tile_blocks<Tiles, Uint8>(args, row_begin, row_end, panel_begin, panel_end);
  } else {
    tile_blocks<Tiles, Bfloat16>(args, row_begin, row_end, panel_begin, panel_end);
  }
}

}  // namespace
}  // namespace ltrp::simd::LTRP_SIMD_LEVEL

#endif
