// Bytes to network input: (byte / 255 - mean) / std of every channel, as whole images or straight to the rows
// that a matrix product reads.
//
// Both divisions are rounded as IEEE 754 says (no fast-math flags for this file), so that every value has the
// CPU's bits. They would cost more than the memory traffic: 3 x 256 results serve a whole block, from shared
// memory. Neighbouring pixels resemble one another; where two lanes need the same entry it is broadcast.
//
//   normalize_pixels   1 byte read, 4 written a value: 3 MB for 4 images of 224 x 224, all of it memory
//                      traffic. A thread takes 4 pixels: 3 words in, 16 bytes out into each plane. Grid
//                      (1024-pixel pieces in fours, images) of 256 threads.
//   pixel_patches      the same without the detour through an image in memory: 1 byte read, 1 to 4 written a
//   value. A warp a patch of up to 1024 values, 4 patches
//                      a block. Where rows have a scale, a patch is read twice, the second time from the
//                      L1 cache (768 bytes at 16 pixels): to keep it in registers would take all of them,
//                      for its addresses are as many as its values.
#include <stdexcept>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.cuh"

namespace ltrp::cuda {
namespace {

using args::PixelPatches;

constexpr unsigned kThreads = 256;
constexpr int64_t kMostBlocks = 2048;

constexpr int kTable = 3 * 256;  // bytes of three channels
using Table = Shared<float, kTable>;

// table[256 c + b]: byte b of channel c. Ends with a barrier.
__device__ __forceinline__ void fill_table(Table& table, const float (&mean)[3], const float (&std)[3]) {
  for (int i = static_cast<int>(threadIdx.x); i < 256; i += static_cast<int>(blockDim.x)) {
    const float x = static_cast<float>(i) / 255.0F;
    LTRP_UNROLL
    for (int c = 0; c < 3; ++c) table[256 * c + i] = (x - mean[c]) / std[c];
  }
  __syncthreads();
}

// kPixels: 4, or 1 where an image's pixels are no multiple of 4 or not aligned.
template <int kPixels>
__global__ void __launch_bounds__(kThreads) normalize_pixels(args::NormalizePixels a) {
  __shared__ Shared<float, kTable> table;
  fill_table(table, a.mean, a.std);
  const int64_t plane = a.height * a.width;
  for (int64_t image = blockIdx.y; image < a.images; image += gridDim.y) {
    const uint8_t* bytes = a.bytes + image * 3 * plane;
    float* out = a.out + image * 3 * plane;
    for (int64_t pixel = (static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x) * kPixels; pixel < plane;
         pixel += static_cast<int64_t>(gridDim.x) * kThreads * kPixels) {
      int byte[3 * kPixels];
      if constexpr (kPixels == 4) {
        const uint32_t* words = reinterpret_cast<const uint32_t*>(bytes + 3 * pixel);
        LTRP_UNROLL
        for (int w = 0; w < 3; ++w) {
          const uint32_t word = __ldg(words + w);
          LTRP_UNROLL
          for (int i = 0; i < 4; ++i) byte[4 * w + i] = static_cast<int>(word >> (8 * i) & 0xffU);
        }
      } else {
        LTRP_UNROLL
        for (int c = 0; c < 3; ++c) byte[c] = bytes[3 * pixel + c];
      }
      LTRP_UNROLL
      for (int c = 0; c < 3; ++c) {
        Values<kPixels> x;
        for_values<kPixels>([&](int i) { x.x[i] = table[256 * c + byte[3 * i + c]]; });
        store_values(out + c * plane + pixel, x);
      }
    }
  }
}

// kSide: the patch size where it is known to the compiler, whose divisions are shifts then; else 0. 24 warps
// on a multiprocessor leave 80 registers to a thread; 64 are one too few on sm_80.
template <typename Shape, int kSide>
__global__ void __launch_bounds__(Shape::kBlock, Shape::kBlocksAtOnce + Shape::kBlocksAtOnce / 2)
    pixel_patches(PixelPatches a, int64_t rows) {
  constexpr int kPiece = Shape::kPiece;
  __shared__ Shared<float, kTable> table;
  fill_table(table, a.mean, a.std);
  const int side = kSide > 0 ? kSide : static_cast<int>(a.patch_size), width = 3 * side * side;
  const int64_t columns = a.width / side;
  // All warps of a block whose rows are shared by several take the same number of turns.
  for (int64_t r = Shape::row(); r < rows; r += static_cast<int64_t>(gridDim.x) * Shape::kRows) {
    const int64_t id = a.ids != nullptr ? a.ids[r] : r % a.per_image, image = r / a.per_image;
    const int64_t top = id / columns * side, left = id % columns * side;
    round_row<Shape>(a.out, r, width, [&](int, int first) {
      const int line = first / side, channel = line / side;
      const uint8_t* from =
          a.bytes + 3 * ((image * a.height + top + line % side) * a.width + left + first % side) + channel;
      Values<kPiece> x;  // of neighbouring pixels of a line
      for_values<kPiece>([&](int i) { x.x[i] = table[256 * channel + from[3 * i]]; });
      return x;
    });
    // The next row's reduction uses the same memory.
    if constexpr (Shape::kWarpsPerRow > 1) __syncthreads();
  }
}

template <typename Shape, int kSide>
void launch_patches(const PixelPatches& a, int64_t rows, Stream stream) {
  const int64_t blocks = (rows + Shape::kRows - 1) / Shape::kRows;
  launch(pixel_patches<Shape, kSide>,
         dim3(static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks)), dim3(Shape::kBlock), 0,
         stream, a, rows);
}

}  // namespace

void launch_normalize_pixels(const args::NormalizePixels& a, Stream stream) {
  if (a.height < 1 || a.width < 1) throw std::invalid_argument("images to normalise have no pixels");
  if (a.images < 1) return;
  const int64_t plane = a.height * a.width;
  const bool pieces = plane % 4 == 0 && aligned16(a.out) && reinterpret_cast<uintptr_t>(a.bytes) % 4 == 0;
  // Four turns a thread pay for the table.
  const int64_t pixels = (pieces ? 4 : 1) * 4 * static_cast<int64_t>(kThreads);
  const int64_t blocks = (plane + pixels - 1) / pixels;
  const dim3 grid(static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks),
                  static_cast<unsigned>(a.images < 65535 ? a.images : 65535));
  launch(pieces ? normalize_pixels<4> : normalize_pixels<1>, grid, dim3(kThreads), 0, stream, a);
}

void launch_pixel_patches(const PixelPatches& a, int64_t rows, Stream stream) {
  require_served(a.out);
  if (a.patch_size < 1 || a.patch_size > 1 << 14 || a.height < 1 || a.width < 1 ||
      a.height % a.patch_size != 0 || a.width % a.patch_size != 0 || a.per_image < 1) {
    throw std::invalid_argument("images must be whole patches");
  }
  if (rows < 1) return;
  const int64_t side = a.patch_size, width = 3 * side * side;
  // Lines of an image begin on boundaries as long as patches are multiples of 4 wide.
  const bool pieces =
      side % 4 == 0 && in_pieces(width, {a.out.values}) && reinterpret_cast<uintptr_t>(a.bytes) % 4 == 0;
  if (pieces && side == 16) return launch_patches<RowShape<1, 0, 4>, 16>(a, rows, stream);
  with_streaming_shape(width, pieces,
                       [&](auto shape) { launch_patches<decltype(shape), 0>(a, rows, stream); });
}

}  // namespace ltrp::cuda
