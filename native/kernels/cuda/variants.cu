// Putting the decoder's input together. A picture's V visible patches have latents, the other L - V of its L
// are mask tokens; a variant lacks one visible patch, whose row is gone (not masked), so that L tokens remain
// of L + 1. For token t of variant v, with p = t - 1 its patch:
//
//   t = 0           embedded[0] + position[0]                          CLS
//   p is visible    embedded[1 + slot of p] + position[t]
//   otherwise       mask token + position[t]
//   row s of out    token s + (s >= removed token)
//
// The slot of p is the number of visible ids below it: the ids ascend, so a warp counts them with V / 32
// loads and 5 shuffles, and no table of where each patch lies has to be written first.
//
// All four kernels move bytes. A row of out is written once and its sources read once, of which positions and
// mask token stay in the L2 cache: E = 512, L = 196, V = 49 is 402 KB written and 100 KB
// read from memory a variant; one addition a value.
//
// Launch: a warp a row of up to 1024 values, 4 rows a block: E = 512 is 4 x 16 bytes a lane.
#include <stdexcept>

#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.cuh"

namespace ltrp::cuda {
namespace {

constexpr unsigned kThreads = 256;
constexpr unsigned kRowsPerBlock = kThreads / kLanes;

// Which of the visible patches a patch is, or that it is none of them: the same for the whole warp.
struct Slot {
  int below;  // visible ids smaller than the patch
  bool visible;
};

__device__ __forceinline__ Slot slot_of(const int64_t* visible, int count, int patch) {
  int below = 0;
  bool found = false;
  for (int i = static_cast<int>(threadIdx.x % 32); i < count; i += 32) {
    const auto id = static_cast<int>(__ldg(visible + i));
    below += id < patch ? 1 : 0;
    found = found || id == patch;
  }
  for (int lanes = 16; lanes > 0; lanes /= 2) below += __shfl_xor_sync(kAllLanes, below, lanes);
  return {below, __any_sync(kAllLanes, found) != 0};
}

// Where the T tokens of a variant come from. Row ids count the T tokens of each variant.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kBlock, 2 * Shape::kBlocksAtOnce)
    decoder_input_kernel(args::DecoderInput a, int64_t rows) {
  constexpr int kPiece = Shape::kPiece;
  const int64_t row = Shape::row();
  if (row >= rows) return;  // all warps of the row
  const bool deleted = a.removed != nullptr;
  const int64_t tokens = a.patches + (deleted ? 0 : 1), variant = row / tokens;
  const int64_t image = a.image != nullptr ? a.image[variant] : variant;
  const int width = static_cast<int>(a.width), visible_count = static_cast<int>(a.visible_per_image);
  const int64_t* visible = a.visible + image * a.visible_per_image;
  const int removed = deleted ? a.removed[variant] : visible_count;
  int token = static_cast<int>(row % tokens);
  if (deleted && token >= static_cast<int>(visible[removed]) + 1) ++token;
  // What the position is added to: a latent, or the mask token.
  const float* from = a.mask_token;
  const Slot slot = token > 0 ? slot_of(visible, visible_count, token - 1) : Slot{-1, true};
  if (slot.visible) {
    const int64_t first = deleted ? variant * visible_count : image * (visible_count + 1);
    from = a.embedded + (first + slot.below + (slot.below > removed ? 0 : 1)) * width;
  }
  const float* position = a.positions + static_cast<int64_t>(token) * width;
  float* out = a.out + row * width;
  Shape::for_pieces(width, [&](int, int column) {
    Values<kPiece> x = load_values<kPiece>(from + column);
    const Values<kPiece> shift = load_values<kPiece>(position + column);
    for_values<kPiece>([&](int i) { x.x[i] += shift.x[i]; });
    store_values(out + column, x);
  });
}

template <typename Shape>
__global__ void __launch_bounds__(Shape::kBlock, 2 * Shape::kBlocksAtOnce)
    starting_difference_kernel(args::StartingDifference a, int64_t rows) {
  constexpr int kPiece = Shape::kPiece;
  const int64_t row = Shape::row(), tokens = a.patches + 1;
  if (row >= rows) return;
  const int64_t variant = row / tokens, image = a.image[variant];
  const int token = static_cast<int>(row % tokens);
  const int width = static_cast<int>(a.width), visible_count = static_cast<int>(a.visible_per_image);
  const int removed = a.removed != nullptr ? a.removed[variant] : -2;
  Slot slot{-1, true};  // CLS is the latent before all slots
  if (token > 0) slot = slot_of(a.visible + image * a.visible_per_image, visible_count, token - 1);
  float* out = a.out + row * width;
  if (slot.visible && slot.below != removed) {
    const float* change = a.difference + (variant * (visible_count + 1) + slot.below + 1) * width;
    Shape::for_pieces(
        width, [&](int, int column) { store_values(out + column, load_values<kPiece>(change + column)); });
  } else if (slot.visible && a.mask_token != nullptr) {
    const float* anchor = a.embedded + (image * (visible_count + 1) + slot.below + 1) * width;
    Shape::for_pieces(width, [&](int, int column) {
      const Values<kPiece> before = load_values<kPiece>(anchor + column);
      Values<kPiece> x = load_values<kPiece>(a.mask_token + column);
      for_values<kPiece>([&](int i) { x.x[i] -= before.x[i]; });
      store_values(out + column, x);
    });
  } else {
    Shape::for_pieces(width, [&](int, int column) { store_values(out + column, Values<kPiece>{}); });
  }
}

// T: 16, 4 or 1 bytes.
template <typename T>
__global__ __launch_bounds__(kThreads) void delete_row(args::DeleteRow a, int64_t rows) {
  const int64_t row = static_cast<int64_t>(blockIdx.x) * kRowsPerBlock + threadIdx.x / kLanes;
  const int64_t remaining = a.tokens - 1;
  if (row >= rows) return;
  const int64_t variant = row / remaining, slot = row % remaining;
  const int64_t token = slot + (slot >= __ldg(a.removed + variant) ? 1 : 0);
  const int64_t units = a.row_bytes / static_cast<int64_t>(sizeof(T));
  const T* from = reinterpret_cast<const T*>(a.rows) + (__ldg(a.image + variant) * a.tokens + token) * units;
  T* to = reinterpret_cast<T*>(a.out) + row * units;
  for (int64_t i = threadIdx.x % 32; i < units; i += 32) to[i] = from[i];
}

// Grid (patches in 256s, variants): a thread a patch; a patch that is not visible comes behind as many others
// as there are patches before it, less the visible ones.
__global__ __launch_bounds__(kThreads) void masked_tokens(args::MaskedTokens a) {
  const int64_t variant = blockIdx.y;
  const int patch = static_cast<int>(blockIdx.x * kThreads + threadIdx.x);
  if (patch >= static_cast<int>(a.patches)) return;
  const int64_t image = a.image != nullptr ? __ldg(a.image + variant) : variant;
  const int64_t* visible = a.visible + image * a.visible_per_image;
  int low = 0, high = static_cast<int>(a.visible_per_image);  // the ids before `low` are smaller
  while (low < high) {
    const int middle = (low + high) / 2;
    if (static_cast<int>(__ldg(visible + middle)) < patch) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low < static_cast<int>(a.visible_per_image) && static_cast<int>(visible[low]) == patch) return;
  const int token = patch + 1;
  const bool behind = a.removed != nullptr && token > __ldg(a.removed + variant);
  a.out[variant * (a.patches - a.visible_per_image) + patch - low] = token - (behind ? 1 : 0);
}

unsigned blocks_for(int64_t rows) {
  const int64_t blocks = (rows + kRowsPerBlock - 1) / kRowsPerBlock;
  if (blocks > INT32_MAX) throw std::invalid_argument("too many rows of variants at a time");
  return static_cast<unsigned>(blocks);
}

void check_counts(int64_t patches, int64_t visible, int64_t width) {
  if (patches < 1 || visible < 1 || visible > patches || patches >= INT32_MAX || width < 1 ||
      width > INT32_MAX / 4) {
    throw std::invalid_argument("a decoder's input needs patches, of which one is visible, and a width");
  }
}

}  // namespace

void launch_decoder_input(const args::DecoderInput& a, int64_t variants, Stream stream) {
  check_counts(a.patches, a.visible_per_image, a.width);
  if (variants < 1) return;
  const int64_t tokens = a.patches + (a.removed == nullptr ? 1 : 0);
  const bool pieces = in_pieces(a.width, {a.embedded, a.mask_token, a.positions, a.out});
  with_streaming_shape(a.width, pieces, [&](auto shape) {
    using Shape = decltype(shape);
    launch_rows<Shape>(decoder_input_kernel<Shape>, a, variants * tokens, stream);
  });
}

void launch_starting_difference(const args::StartingDifference& a, int64_t variants, Stream stream) {
  check_counts(a.patches, a.visible_per_image, a.width);
  if (a.mask_token != nullptr && a.embedded == nullptr) {
    throw std::invalid_argument("a mask token's difference needs what it takes the place of");
  }
  if (variants < 1) return;
  const bool pieces = in_pieces(a.width, {a.difference, a.mask_token, a.embedded, a.out});
  with_streaming_shape(a.width, pieces, [&](auto shape) {
    using Shape = decltype(shape);
    launch_rows<Shape>(starting_difference_kernel<Shape>, a, variants * (a.patches + 1), stream);
  });
}

void launch_delete_row(const args::DeleteRow& a, int64_t variants, Stream stream) {
  if (a.tokens < 1 || a.row_bytes < 1) throw std::invalid_argument("there is no row to delete");
  if (variants < 1 || a.tokens == 1) return;
  const int64_t rows = variants * (a.tokens - 1);
  const auto fits = [&](uintptr_t bytes) {
    return (reinterpret_cast<uintptr_t>(a.rows) | reinterpret_cast<uintptr_t>(a.out) |
            static_cast<uintptr_t>(a.row_bytes)) %
               bytes ==
           0;
  };
  launch(fits(16)  ? delete_row<uint4>
         : fits(4) ? delete_row<uint32_t>
                   : delete_row<char>,
         dim3(blocks_for(rows)), dim3(kThreads), 0, stream, a, rows);
}

void launch_masked_tokens(const args::MaskedTokens& a, int64_t variants, Stream stream) {
  check_counts(a.patches, a.visible_per_image, 1);
  if (variants > 65535) throw std::invalid_argument("at most 65535 variants are listed at a time");
  if (variants < 1 || a.visible_per_image == a.patches) return;
  launch(masked_tokens,
         dim3(static_cast<unsigned>((a.patches + kThreads - 1) / kThreads), static_cast<unsigned>(variants)),
         dim3(kThreads), 0, stream, a);
}

}  // namespace ltrp::cuda
