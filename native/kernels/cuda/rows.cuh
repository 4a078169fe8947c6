// How threads share the rows of a matrix, for the kernels that go through rows: which thread has which
// columns, sums and maxima over a row, and the rounding of a row that a kernel yields.
//
// All of these kernels do a few operations per byte and are bound by memory. So each value is read once, in
// pieces of four (16 bytes of float32, 8 of bfloat16, 4 of a byte type; neighbouring threads have
// neighbouring pieces, so that a warp's access is whole 128-byte lines), is kept in registers between the
// passes over a row, and a row belongs to one warp up to 1024 values: warps never wait for each other there.
#pragma once

#include <initializer_list>
#include <stdexcept>
#include <string>

#include "kernels/cuda/rounding.cuh"

namespace ltrp::cuda {

// kWarps warps share a row. Each thread keeps up to kHeld pieces of kPiece consecutive values in registers;
// with kHeld = 0 rows may be of any width and every pass reads them again, from the caches as a rule.
template <int kWarps, int kHeld_, int kPiece_>
struct RowShape {
  static constexpr int kHeld = kHeld_;
  static constexpr int kPiece = kPiece_;
  static constexpr int kWarpsPerRow = kWarps;
  static constexpr int kThreads = kWarps * kLanes;  // per row
  static constexpr int kBlock = kThreads < 128 ? 128 : kThreads;
  static constexpr int kRows = kBlock / kThreads;  // per block
  // Blocks that must fit on a multiprocessor: 16 warps with up to 16 pieces per thread on their way are more
  // than memory can serve, and leave 128 registers to a thread.
  static constexpr int kBlocksAtOnce = 512 / kBlock;
  static constexpr int kWidest = kHeld * kPiece * kThreads;

  static __device__ __forceinline__ int64_t row() {
    return static_cast<int64_t>(blockIdx.x) * kRows + static_cast<int>(threadIdx.x) / kThreads;
  }
  static __device__ __forceinline__ int thread() { return static_cast<int>(threadIdx.x) % kThreads; }

  // body(j, column) for this thread's pieces of a row: number j begins at `column`.
  template <typename Body>
  static __device__ __forceinline__ void for_pieces(int width, Body body) {
    if constexpr (kHeld > 0) {
      LTRP_UNROLL
      for (int j = 0; j < kHeld; ++j) {
        const int column = (j * kThreads + thread()) * kPiece;
        if (column < width) body(j, column);
      }
    } else {
      for (int column = thread() * kPiece; column < width; column += kThreads * kPiece) body(0, column);
    }
  }
};

// What a thread remembers of a row between passes: its pieces, or nothing where they are read again.
template <typename Shape>
struct Kept {
  Values<Shape::kPiece> pieces[Shape::kHeld > 0 ? Shape::kHeld : 1];

  __device__ __forceinline__ void keep(int j, const Values<Shape::kPiece>& value) {
    if constexpr (Shape::kHeld > 0) pieces[j] = value;
  }
  // Piece j, or again(): what yields it anew.
  template <typename Again>
  __device__ __forceinline__ Values<Shape::kPiece> get(int j, Again again) const {
    if constexpr (Shape::kHeld > 0) {
      return pieces[j];
    } else {
      return again();
    }
  }
};

struct Sum {
  __device__ __forceinline__ float operator()(float a, float b) const { return a + b; }
};
struct Largest {
  __device__ __forceinline__ float operator()(float a, float b) const { return fmaxf(a, b); }
};

namespace {  // shared memory of its own in every file that includes this

// x of all threads of the row combined, in an order that depends on the shape alone; every thread gets the
// result. Among several warps it waits once for the block: partial results of different counts or
// operations have memory of their own, so that only two equal reductions may not follow each other directly.
template <typename Shape, int kCount, typename Combine>
__device__ __forceinline__ void over_row(float (&x)[kCount], Combine combine) {
  LTRP_UNROLL
  for (int apart = kLanes / 2; apart > 0; apart /= 2) {
    LTRP_UNROLL
    for (int c = 0; c < kCount; ++c) x[c] = combine(x[c], __shfl_xor_sync(kAllLanes, x[c], apart));
  }
  if constexpr (Shape::kWarpsPerRow > 1) {
    static_assert(Shape::kRows == 1);
    constexpr int kWarps = Shape::kWarpsPerRow;
    __shared__ Shared<float, kWarps * kCount> partial;
    const int warp = static_cast<int>(threadIdx.x) / kLanes, lane = static_cast<int>(threadIdx.x) % kLanes;
    LTRP_UNROLL
    for (int c = 0; c < kCount; ++c) {
      if (lane == 0) partial[warp * kCount + c] = x[c];
    }
    __syncthreads();
    LTRP_UNROLL
    for (int c = 0; c < kCount; ++c) {
      x[c] = partial[c];
      LTRP_UNROLL
      for (int w = 1; w < kWarps; ++w) x[c] = combine(x[c], partial[w * kCount + c]);
    }
  }
}

template <typename Shape, typename Combine>
__device__ __forceinline__ float over_row(float x, Combine combine) {
  float both[1] = {x};
  over_row<Shape>(both, combine);
  return both[0];
}

}  // namespace

// The pieces of a row, times `inverse`, in one encoding.
template <typename Shape, Encoding kEncoding, typename Piece>
__device__ __forceinline__ void store_row(void* values, int64_t first, int width, float inverse,
                                          Piece piece) {
  constexpr int kPiece = Shape::kPiece;
  Shape::for_pieces(width, [&](int j, int column) {
    Values<kPiece> x = piece(j, column);
    for_values<kPiece>([&](int i) { x.x[i] *= inverse; });
    store_encoded<kEncoding, kPiece>(values, first + column, x);
  });
}

// Rounds row `row` of value(j, column). The values are computed in one place for all encodings, for they are
// what takes code (and minutes of compilation); where rows have a scale, they are asked for once more unless
// the shape keeps them.
template <typename Shape, typename Value>
__device__ __forceinline__ void round_row(const args::Rounded& out, int64_t row, int width, Value value) {
  constexpr int kPiece = Shape::kPiece;
  const bool scaled = out.encoding == Encoding::kFloat16 || out.encoding == Encoding::kFloat8 ||
                      out.encoding == Encoding::kInt8;
  Kept<Shape> kept;
  float inverse = 1;
  if (scaled || Shape::kHeld > 0) {
    float most = 0;
    Shape::for_pieces(width, [&](int j, int column) {
      const Values<kPiece> x = value(j, column);
      for_values<kPiece>([&](int i) { most = fmaxf(most, fabsf(x.x[i])); });
      kept.keep(j, x);
    });
    if (scaled) {
      const RowScale scale = row_scale(out.encoding, over_row<Shape>(most, Largest()));
      inverse = scale.inverse;
      if (Shape::thread() == 0) out.scale[row] = scale.scale;
    }
  }
  const auto piece = [&](int j, int column) { return kept.get(j, [&] { return value(j, column); }); };
  const int64_t first = row * width;
  switch (out.encoding) {
    case Encoding::kBfloat16:
      return store_row<Shape, Encoding::kBfloat16>(out.values, first, width, inverse, piece);
    case Encoding::kFloat16:
      return store_row<Shape, Encoding::kFloat16>(out.values, first, width, inverse, piece);
    case Encoding::kFloat8:
      return store_row<Shape, Encoding::kFloat8>(out.values, first, width, inverse, piece);
    case Encoding::kInt8:
      return store_row<Shape, Encoding::kInt8>(out.values, first, width, inverse, piece);
    default:
      return store_row<Shape, Encoding::kFloat32>(out.values, first, width, inverse, piece);
  }
}

// A packed row's id in the set, and its row among the anchor's.
struct RowPlace {
  int64_t id;
  int64_t anchor;
};

__device__ __forceinline__ int64_t id_of(const args::PackedRows& rows, int64_t packed) {
  return rows.ids != nullptr ? rows.ids[packed] : rows.first + packed;
}

__device__ __forceinline__ RowPlace locate(const args::Variants& set, const args::PackedRows& rows,
                                           int64_t packed) {
  const int64_t id = id_of(rows, packed);
  const int64_t variant = id / set.rows_tokens, slot = id % set.rows_tokens;
  const int64_t image = set.image[variant];
  const int64_t token = set.queries != nullptr ? set.queries[image * set.rows_tokens + slot] : slot;
  return {id, image * set.tokens + token};
}

// ---- the host's side
// -------------------------------------------------------------------------------------

// Whether rows of `width` values may be read in pieces of four at all of these addresses (null ones count as
// such): 16-byte boundaries serve every type.
inline bool in_pieces(int64_t width, std::initializer_list<const void*> addresses) {
  bool aligned = width % 4 == 0;
  for (const void* address : addresses) aligned = aligned && aligned16(static_cast<const char*>(address));
  return aligned;
}

inline void require_width(int64_t width) {
  if (width < 1 || width > int64_t{1} << 30) {
    throw std::runtime_error("rows of " + std::to_string(width) + " values are not supported");
  }
}

inline void require_served(const args::Rounded& out) {
  if (out.encoding == Encoding::kUint8 || out.encoding == Encoding::kInt32) {
    throw std::runtime_error("rows are rounded to float32, bfloat16, float16, float8 or int8 on this device");
  }
}

// Calls body(shape) with the smallest shape that keeps rows of `width` values, or with one that reads them
// again.
template <typename Body>
void with_shape(int64_t width, bool pieces, Body body) {
  require_width(width);
  if (!pieces || width > RowShape<8, 8, 4>::kWidest) return body(RowShape<4, 0, 1>());
  if (width <= RowShape<1, 4, 4>::kWidest) return body(RowShape<1, 4, 4>());
  if (width <= RowShape<1, 8, 4>::kWidest) return body(RowShape<1, 8, 4>());
  if (width <= RowShape<4, 4, 4>::kWidest) return body(RowShape<4, 4, 4>());
  if (width <= RowShape<4, 8, 4>::kWidest) return body(RowShape<4, 8, 4>());
  body(RowShape<8, 8, 4>());
}

// The same for kernels that need no more than one pass.
template <typename Body>
void with_streaming_shape(int64_t width, bool pieces, Body body) {
  require_width(width);
  if (!pieces) return body(RowShape<1, 0, 1>());
  if (width <= RowShape<1, 8, 4>::kWidest) return body(RowShape<1, 0, 4>());
  body(RowShape<4, 0, 4>());
}

// Runs `kernel`(arguments, rows) over rows of the shape.
template <typename Shape, typename Arguments>
void launch_rows(void (*kernel)(Arguments, int64_t), const Arguments& arguments, int64_t rows,
                 Stream stream) {
  const int64_t blocks = (rows + Shape::kRows - 1) / Shape::kRows;
  if (blocks > 0x7fffffff) throw std::runtime_error("too many rows for one launch: " + std::to_string(rows));
  if (rows > 0) {
    launch(kernel, dim3(static_cast<unsigned>(blocks)), dim3(Shape::kBlock), 0, stream, arguments, rows);
  }
}

}  // namespace ltrp::cuda
