// Kernels that move rows: rounding, adding, summing, patches of images, q, k and v by head.
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.cuh"

namespace ltrp::cuda {
namespace {

// x[id], rounded. 4 bytes read and 1 to 4 written per value; each value read once, kept in registers while
// the row's largest magnitude is found. Launch as the layer norms'.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kBlock, Shape::kBlocksAtOnce)
    round_rows_kernel(args::RoundRows a, int64_t rows) {
  const int64_t r = Shape::row();
  if (r >= rows) return;
  const int width = static_cast<int>(a.width);
  const float* x = a.x + id_of(a.rows, r) * width;
  round_row<Shape>(a.out, r, width, [&](int, int column) { return load_values<Shape::kPiece>(x + column); });
}

// x[id] += update[r]. 8 bytes of x and 2 of a bfloat16 update per value, in one pass: a warp for each row of
// up to 1024 values, else a block of 128 threads.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kBlock, 2 * Shape::kBlocksAtOnce)
    add_rows_kernel(args::AddRows a, int64_t rows) {
  constexpr int kPiece = Shape::kPiece;
  const int64_t r = Shape::row();
  if (r >= rows) return;
  const int width = static_cast<int>(a.width);
  float* row = a.x + id_of(a.rows, r) * width;
  with_row(a.update, r, width, [&](const auto& update) {
    Shape::for_pieces(width, [&](int, int column) {
      Values<kPiece> x = load_values<kPiece>(row + column);
      const Values<kPiece> more = update.template piece<kPiece>(column);
      for_values<kPiece>([&](int i) { x.x[i] += more.x[i]; });
      store_values(row + column, x);
    });
  });
}

// Sums of |x| or x^2 of a product's rows: with the last layer norm's difference before the product, this is
// the score's masked L1. 2 bytes of a bfloat16 product per value; what is written is nothing beside it. The
// order of the additions depends on the width alone, so that a row's sum never changes from run to run.
// Launch as add_rows.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kBlock, 2 * Shape::kBlocksAtOnce)
    row_sums_kernel(args::RowSums a, int64_t rows) {
  constexpr int kPiece = Shape::kPiece;
  const int64_t r = Shape::row();
  if (r >= rows) return;
  const int width = static_cast<int>(a.width);
  float sum = 0;
  with_row(a.x, r, width, [&](const auto& product) {
    Shape::for_pieces(width, [&](int, int column) {
      const Values<kPiece> x = product.template piece<kPiece>(column);
      for_values<kPiece>([&](int i) { sum += a.squared ? x.x[i] * x.x[i] : fabsf(x.x[i]); });
    });
  });
  sum = over_row<Shape>(sum, Sum());
  if (Shape::thread() == 0) a.sums[r] = static_cast<double>(sum);
}

// Patches of images [n, 3, height, width], values in the order (channel, row, column), rounded. A patch's
// row of pixels is contiguous in the image: 64 bytes at 16 pixels. 4 bytes read and 1 to 4 written per
// value. Launch as the layer norms'.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kBlock, Shape::kBlocksAtOnce)
    patch_rows_kernel(args::PatchRows a, int64_t rows) {
  const int64_t r = Shape::row();
  if (r >= rows) return;
  const int p = static_cast<int>(a.patch_size), area = p * p;
  const int64_t columns = a.width / p, id = a.ids != nullptr ? a.ids[r] : r % a.per_image;
  const float* corner =
      a.images + (r / a.per_image * 3 * a.height + id / columns * p) * a.width + id % columns * p;
  round_row<Shape>(a.out, r, 3 * area, [&](int, int column) {
    const int channel = column / area, in_channel = column % area;
    const int64_t line = channel * a.height + in_channel / p;
    return load_values<Shape::kPiece>(corner + line * a.width + in_channel % p);
  });
}

// Rows [rows, 3 * heads * head_dim] -> [variants, heads, 3, tokens, head_dim], in units of sizeof(Unit)
// bytes: pure copying, each value read and written once. A block of 256 threads for each q, k or v of a
// head, whose result is contiguous; its sources are pieces of head_dim values. Six blocks fill the 1536
// threads that a multiprocessor of sm_86, 89 and 120 has, and 3/4 of the others' 2048.
template <typename Unit>
__global__ void __launch_bounds__(256, 6) split_heads_kernel(args::SplitHeads a) {
  const int heads = static_cast<int>(a.heads), tokens = static_cast<int>(a.tokens);
  const int units = static_cast<int>(a.head_bytes / static_cast<int64_t>(sizeof(Unit)));  // of a token
  const int64_t task = blockIdx.x;
  const int part = static_cast<int>(task % 3), head = static_cast<int>(task / 3 % heads);
  const int64_t variant = task / 3 / heads;
  const Unit* from = reinterpret_cast<const Unit*>(a.rows) + (part * heads + head) * units;
  Unit* out = reinterpret_cast<Unit*>(a.out) + task * tokens * units;
  for (int e = static_cast<int>(threadIdx.x); e < tokens * units; e += static_cast<int>(blockDim.x)) {
    const int token = e / units, unit = e % units;
    const int64_t id = variant * tokens + token;
    const int64_t row = a.packed_row != nullptr ? a.packed_row[id] : id;
    out[e] = row < 0 ? Unit() : from[row * (3 * heads * units) + unit];
  }
}

template <typename Unit>
void launch_split(const args::SplitHeads& a, int64_t blocks, Stream stream) {
  launch(split_heads_kernel<Unit>, dim3(static_cast<unsigned>(blocks)), dim3(256), 0, stream, a);
}

}  // namespace

void launch_round_rows(const args::RoundRows& a, int64_t rows, Stream stream) {
  require_served(a.out);
  with_shape(a.width, in_pieces(a.width, {a.x, a.out.values}), [&](auto shape) {
    using Shape = decltype(shape);
    launch_rows<Shape>(round_rows_kernel<Shape>, a, rows, stream);
  });
}

void launch_add_rows(const args::AddRows& a, int64_t rows, Stream stream) {
  const bool pieces = in_pieces(a.width, {a.x, a.update.values, a.update.column_scale});
  with_streaming_shape(a.width, pieces, [&](auto shape) {
    using Shape = decltype(shape);
    launch_rows<Shape>(add_rows_kernel<Shape>, a, rows, stream);
  });
}

void launch_row_sums(const args::RowSums& a, int64_t rows, Stream stream) {
  with_streaming_shape(a.width, in_pieces(a.width, {a.x.values, a.x.column_scale}), [&](auto shape) {
    using Shape = decltype(shape);
    launch_rows<Shape>(row_sums_kernel<Shape>, a, rows, stream);
  });
}

void launch_patch_rows(const args::PatchRows& a, int64_t rows, Stream stream) {
  require_served(a.out);
  const int64_t p = a.patch_size, width = 3 * p * p;
  const bool pieces = p % 4 == 0 && a.width % 4 == 0 && in_pieces(width, {a.images, a.out.values});
  with_shape(width, pieces, [&](auto shape) {
    using Shape = decltype(shape);
    launch_rows<Shape>(patch_rows_kernel<Shape>, a, rows, stream);
  });
}

void launch_split_heads(const args::SplitHeads& a, int64_t variants, Stream stream) {
  const int64_t blocks = variants * a.heads * 3;
  if (blocks == 0) return;
  if (blocks > 0x7fffffff || a.tokens * a.head_bytes > int64_t{1} << 30) {
    throw std::runtime_error("too many heads for one launch");
  }
  const auto in_units_of = [&](int64_t bytes) {
    return a.head_bytes % bytes == 0 &&
           reinterpret_cast<uintptr_t>(a.rows) % static_cast<uintptr_t>(bytes) == 0 &&
           reinterpret_cast<uintptr_t>(a.out) % static_cast<uintptr_t>(bytes) == 0;
  };
  if (in_units_of(16)) return launch_split<uint4>(a, blocks, stream);
  if (in_units_of(4)) return launch_split<uint32_t>(a, blocks, stream);
  if (in_units_of(2)) return launch_split<uint16_t>(a, blocks, stream);
  launch_split<uint8_t>(a, blocks, stream);
}

}  // namespace ltrp::cuda
