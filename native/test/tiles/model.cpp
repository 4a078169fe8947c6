// AMX as Intel's manual describes it (volume 2: LDTILECFG, TILELOADD, TILESTORED, TDPBF16PS, TDPBUSD), one
// value at a time. Compiled with the source of AVX-512's kernels on pairs of AVX2's vectors (LtrpSimd.cmake).
#include "test/tiles/model.h"

#include <cfloat>
#include <cmath>
#include <cstring>

#include "kernels/cpu/simd/tiles.h"

namespace ltrp::simd::wide {

namespace {

struct Tile {
  int rows = 0;
  int bytes = 0;  // of a row
  unsigned char values[16][64] = {};
};

struct State {
  bool configured = false;
  int faults = 0;
  Tile tiles[8];
};

State state;

void must(bool holds) {
  if (!holds) ++state.faults;
}

Tile& tile(int index) {
  must(state.configured && state.tiles[index].rows > 0);
  return state.tiles[index];
}

template <typename T>
T value_at(const Tile& from, int row, int column) {
  T value;
  std::memcpy(&value, from.values[row] + static_cast<size_t>(column) * sizeof value, sizeof value);
  return value;
}
template <typename T>
void set(Tile& to, int row, int column, T value) {
  std::memcpy(to.values[row] + static_cast<size_t>(column) * sizeof value, &value, sizeof value);
}

float flushed(float x) { return std::fabs(x) < FLT_MIN ? std::copysign(0.0F, x) : x; }

float widened(uint16_t x) {
  const uint32_t bits = static_cast<uint32_t>(x) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return flushed(value);
}

void check_shapes(const Tile& sum, const Tile& left, const Tile& right) {
  must(sum.rows == left.rows && left.bytes == right.rows * 4 && sum.bytes == right.bytes);
}

struct ModelTiles {
  static void configure(const TileShapes& shapes) {
    must(shapes.palette == 1 && shapes.start_row == 0);
    state.configured = true;
    for (int i = 0; i < 8; ++i) {
      must(shapes.rows[i] <= 16 && shapes.row_bytes[i] <= 64 && shapes.row_bytes[i] % 4 == 0);
      must((shapes.rows[i] == 0) == (shapes.row_bytes[i] == 0));
      state.tiles[i] = {shapes.rows[i], shapes.row_bytes[i], {}};
    }
  }
  static void release() { state.configured = false; }
  template <int kTile>
  static void zero() {
    std::memset(tile(kTile).values, 0, sizeof state.tiles[kTile].values);
  }
  template <int kTile>
  static void load(const void* from, int64_t stride) {
    zero<kTile>();
    Tile& to = tile(kTile);
    for (int row = 0; row < to.rows; ++row) {
      std::memcpy(to.values[row], static_cast<const char*>(from) + row * stride,
                  static_cast<size_t>(to.bytes));
    }
  }
  template <int kTile>
  static void store(void* to, int64_t stride) {
    const Tile& from = tile(kTile);
    for (int row = 0; row < from.rows; ++row) {
      std::memcpy(static_cast<char*>(to) + row * stride, from.values[row], static_cast<size_t>(from.bytes));
    }
  }
  // The even and the odd inputs of a tile are added up apart, from zero, then to each other, then to the sum.
  template <int kSum, int kLeft, int kRight>
  static void multiply_add(Bfloat16) {
    Tile& sum = tile(kSum);
    const Tile &left = tile(kLeft), &right = tile(kRight);
    check_shapes(sum, left, right);
    for (int m = 0; m < sum.rows; ++m) {
      for (int n = 0; n < sum.bytes / 4; ++n) {
        float parts[2] = {};
        for (int k = 0; k < left.bytes / 4; ++k) {
          for (int i = 0; i < 2; ++i) {
            parts[i] = flushed(std::fma(widened(value_at<uint16_t>(left, m, 2 * k + i)),
                                        widened(value_at<uint16_t>(right, k, 2 * n + i)), parts[i]));
          }
        }
        set(sum, m, n, flushed(value_at<float>(sum, m, n) + flushed(parts[0] + parts[1])));
      }
    }
  }
  template <int kSum, int kLeft, int kRight>
  static void multiply_add(Uint8) {
    Tile& sum = tile(kSum);
    const Tile &left = tile(kLeft), &right = tile(kRight);
    check_shapes(sum, left, right);
    for (int m = 0; m < sum.rows; ++m) {
      for (int n = 0; n < sum.bytes / 4; ++n) {
        auto total = static_cast<uint32_t>(value_at<int32_t>(sum, m, n));
        for (int k = 0; k < left.bytes / 4; ++k) {
          for (int i = 0; i < 4; ++i) {
            total += static_cast<uint32_t>(value_at<uint8_t>(left, m, 4 * k + i) *
                                           value_at<int8_t>(right, k, 4 * n + i));
          }
        }
        set(sum, m, n, static_cast<int32_t>(total));
      }
    }
  }
};

}  // namespace

void model_product(const MatrixProduct& args, int64_t row_begin, int64_t row_end, int64_t panel_begin,
                   int64_t panel_end) {
  tile_product<ModelTiles>(args, row_begin, row_end, panel_begin, panel_end);
}

int faults_of_model() {
  const int faults = state.faults;
  state.faults = 0;
  return faults;
}

bool model_is_released() { return !state.configured; }

}  // namespace ltrp::simd::wide
