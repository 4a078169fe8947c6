// Fused attention of variants on the tensor cores, for precisions whose differences are rounded anyway.
#include <stdexcept>
#include <string>

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.cuh"
#include "kernels/cuda/tensor_cores.cuh"

namespace ltrp::cuda {
namespace {

template <int kDim_, int kKeys_, int kBlocks_>
struct SplitShape {
  static constexpr int kDim = kDim_;
  // Blocks on a multiprocessor; one less before sm_90, whose compiler output takes a few registers more.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  static constexpr int kBlocks = kBlocks_ > 2 ? kBlocks_ - 1 : kBlocks_;
#else
  static constexpr int kBlocks = kBlocks_;
#endif
  static constexpr int kWarps = 4;      // of a block, at most
  static constexpr int kRows = 16;      // queries of a warp
  static constexpr int kKeys = kKeys_;  // of a tile
  static constexpr int kSteps = kDim / 16;
  static constexpr int kColumns = kDim / 8;
  // Words of two values; four more than there are keep eight neighbouring rows in different banks.
  static constexpr int kKeyStride = kDim / 2 + 4;
  static constexpr int kValueStride = kKeys / 2 + 4;
  static constexpr int kKeyWords = kKeys * kKeyStride;
  static constexpr int kValueWords = kDim * kValueStride;
  static constexpr int kBytes = 4 * 2 * (kKeyWords + kValueWords);
};

using Words = DynamicShared<uint32_t>;

// A tile of keys from `first` on as rows, values as columns (two keys in a word), both split; zeros beyond
// the tokens. Eight neighbouring threads take eight pairs of keys, four such groups neighbouring pieces of a
// token: whole sectors are read, and no more than two lanes meet in a bank.
template <typename Shape>
__device__ __forceinline__ void fill_split(const Words& k_high, const Words& k_low, const Words& v_high,
                                           const Words& v_low, const Operand& keys, const Operand& values,
                                           int first, int tokens) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  constexpr int kPieces = Shape::kDim / 4;
  const auto four = [&](const Operand& operand, int token, int d) {
    Values<4> x = {{0, 0, 0, 0}};
    if (token < tokens) x = operand.four(token, d);
    return x;
  };
  LTRP_UNROLL_TWICE
  for (int e = thread; e < Shape::kKeys * kPieces; e += threads) {
    const int row = e / kPieces, d = e % kPieces * 4;
    const Values<4> x = four(keys, first + row, d);
    const int to = row * Shape::kKeyStride + d / 2;
    LTRP_UNROLL
    for (int i = 0; i < 2; ++i) {
      const SplitPair pair = split_pair(x.x[2 * i], x.x[2 * i + 1]);
      k_high[to + i] = pair.high;
      k_low[to + i] = pair.low;
    }
  }
  LTRP_NO_UNROLL
  for (int e = thread; e < Shape::kKeys / 2 * kPieces; e += threads) {
    const int block = e / 32, pair_of_keys = e % 8 + block % (Shape::kKeys / 16) * 8;
    const int d = (e / 8 % 4 + block / (Shape::kKeys / 16) * 4) * 4;
    const Values<4> x = four(values, first + 2 * pair_of_keys, d);
    const Values<4> y = four(values, first + 2 * pair_of_keys + 1, d);
    LTRP_UNROLL
    for (int i = 0; i < 4; ++i) {
      const SplitPair pair = split_pair(x.x[i], y.x[i]);
      v_high[(d + i) * Shape::kValueStride + pair_of_keys] = pair.high;
      v_low[(d + i) * Shape::kValueStride + pair_of_keys] = pair.low;
    }
  }
}

// One value, zero beyond the head and for rows without a token.
__device__ __forceinline__ float value_of(const Operand& operand, int64_t token, int d) {
  return token >= 0 && d < operand.head_dim ? operand.piece<1>(token, d).x[0] : 0.0F;
}

// Over the four lanes that share a query.
template <typename Combine>
__device__ __forceinline__ float over_quad(float x, Combine combine) {
  x = combine(x, __shfl_xor_sync(kAllLanes, x, 1));
  return combine(x, __shfl_xor_sync(kAllLanes, x, 2));
}

// What attention_kernel computes (attention.cu), with both products on the tensor cores.
//
// bfloat16 alone would lose the difference of two nearly equal outputs. So q, k, v and the probabilities are
// each the sum of two bfloat16 values, 16 bits together, and a product is three: high high, high low, low
// high; sums are float32. The outputs' errors are some 2^-16 of the largest value, below what rounding the
// difference itself to bfloat16 does from differences of a hundredth on.
//
// The logits' layout in a warp's registers is that of the left operand of the next product: probabilities
// never go through shared memory. Keys lie there as rows, values transposed; each word read from there (two
// values; four words for three products of 16 x 8 x 16) meets no other in its bank.
//
// Per head of one variant, L tokens, D values: 12 L^2 D operations in bfloat16, L^2 exponentials, and the
// same memory as attention_kernel. Launch: one block of up to four warps for each head, variant and run of
// 64 queries, 16 to a warp. Registers and shared memory:
//   D <= 32   128 threads, 4 blocks, at most 128 registers,  19 KiB
//   D <= 64   128 threads, 3 blocks, at most 168 registers,  36 KiB
//   D <= 80   128 threads, 2 blocks, at most 255 registers,  45 KiB
//   D <= 128  128 threads, 2 blocks, at most 255 registers,  37 KiB
// (before sm_90 three blocks of 168 registers and two of 255 for the first two).
template <typename Shape>
__global__ void __launch_bounds__(Shape::kWarps* kLanes, Shape::kBlocks)
    attention_split_kernel(args::Attention a, int tiles, bool pieces) {
  constexpr int kTiles = Shape::kKeys / 8;  // of eight keys
  const Words k_high(0, Shape::kKeyWords), k_low(4 * Shape::kKeyWords, Shape::kKeyWords);
  const Words v_high(8 * Shape::kKeyWords, Shape::kValueWords);
  const Words v_low(8 * Shape::kKeyWords + 4 * Shape::kValueWords, Shape::kValueWords);

  const int task = static_cast<int>(blockIdx.x) / tiles, tile = static_cast<int>(blockIdx.x) % tiles;
  const int heads = static_cast<int>(a.heads), variant = task / heads, head = task % heads;
  const int image = a.set.image[variant], head_dim = static_cast<int>(a.head_dim);
  const int tokens = static_cast<int>(a.set.tokens), slots = static_cast<int>(a.set.rows_tokens);
  const int removed = a.removed != nullptr ? a.removed[variant] : -1;
  const int warps = static_cast<int>(blockDim.x) / kLanes;
  const int first_slot = (tile * warps + warp_of_thread()) * Shape::kRows;
  const int g = lane_of_thread() / 4, t = lane_of_thread() % 4;

  uint32_t q_high[Shape::kSteps][4], q_low[Shape::kSteps][4];
  {
    const Operand queries = operand_of(a, variant, image, head, 0, pieces);
    const float factor = query_factor(head_dim);
    LTRP_UNROLL
    for (int part = 0; part < 2; ++part) {  // rows g and g + 8
      const int64_t token = token_of_slot(a.set, image, first_slot + g + 8 * part);
      LTRP_UNROLL
      for (int step = 0; step < Shape::kSteps; ++step) {
        LTRP_UNROLL
        for (int half = 0; half < 2; ++half) {
          const int d = 16 * step + 8 * half + 2 * t;
          const SplitPair pair =
              split_pair(value_of(queries, token, d) * factor, value_of(queries, token, d + 1) * factor);
          q_high[step][2 * half + part] = pair.high;
          q_low[step][2 * half + part] = pair.low;
        }
      }
    }
  }

  RunningSoftmax softmax[2] = {{-INFINITY, 0}, {-INFINITY, 0}};  // sum: of this lane's keys only
  float out[Shape::kColumns][4];
  LTRP_UNROLL
  for (int n = 0; n < Shape::kColumns; ++n) {
    LTRP_UNROLL
    for (int i = 0; i < 4; ++i) out[n][i] = 0;
  }

  for (int first = 0; first < tokens; first += Shape::kKeys) {
    fill_split<Shape>(k_high, k_low, v_high, v_low, operand_of(a, variant, image, head, 1, pieces),
                      operand_of(a, variant, image, head, 2, pieces), first, tokens);
    __syncthreads();
    if (first_slot < slots) {
      const int left = tokens - first;
      float s[kTiles][4];
      LTRP_UNROLL
      for (int n = 0; n < kTiles; ++n) {
        LTRP_UNROLL
        for (int i = 0; i < 4; ++i) s[n][i] = 0;
        if (8 * n >= left) continue;  // the last tile is often nearly empty: 197 tokens leave five
        LTRP_UNROLL
        for (int step = 0; step < Shape::kSteps; ++step) {
          const int at = (8 * n + g) * Shape::kKeyStride + 8 * step + t;
          const uint32_t high[2] = {k_high[at], k_high[at + 4]}, low[2] = {k_low[at], k_low[at + 4]};
          multiply_add(s[n], q_high[step], q_low[step], high, low);
        }
      }
      LTRP_UNROLL
      for (int part = 0; part < 2; ++part) {
        float top = -INFINITY;
        LTRP_UNROLL
        for (int n = 0; n < kTiles; ++n) {
          LTRP_UNROLL
          for (int i = 0; i < 2; ++i) {
            const int key = first + 8 * n + 2 * t + i;
            if (key >= tokens || key == removed) s[n][2 * part + i] = -INFINITY;
            top = fmaxf(top, s[n][2 * part + i]);
          }
        }
        const float shrink = softmax[part].raise(over_quad(top, Largest()));
        // A tile without any key yet: nothing to subtract from.
        const float most = softmax[part].most == -INFINITY ? 0.0F : softmax[part].most;
        LTRP_UNROLL
        for (int n = 0; n < kTiles; ++n) {
          LTRP_UNROLL
          for (int i = 0; i < 2; ++i) {
            s[n][2 * part + i] = exp2f(s[n][2 * part + i] - most);
            softmax[part].sum += s[n][2 * part + i];
          }
        }
        LTRP_UNROLL
        for (int n = 0; n < Shape::kColumns; ++n) {
          out[n][2 * part] *= shrink;
          out[n][2 * part + 1] *= shrink;
        }
      }
      LTRP_UNROLL
      for (int step = 0; step < Shape::kKeys / 16; ++step) {
        if (16 * step >= left) continue;
        uint32_t p_high[4], p_low[4];
        LTRP_UNROLL
        for (int i = 0; i < 4; ++i) {
          const SplitPair pair =
              split_pair(s[2 * step + i / 2][i % 2 * 2], s[2 * step + i / 2][i % 2 * 2 + 1]);
          p_high[i] = pair.high;
          p_low[i] = pair.low;
        }
        LTRP_UNROLL
        for (int n = 0; n < Shape::kColumns; ++n) {
          const int at = (8 * n + g) * Shape::kValueStride + 8 * step + t;
          const uint32_t high[2] = {v_high[at], v_high[at + 4]}, low[2] = {v_low[at], v_low[at + 4]};
          multiply_add(out[n], p_high, p_low, high, low);
        }
      }
    }
    __syncthreads();
  }
  if (first_slot >= slots) return;

  const int64_t width = a.heads * a.head_dim;
  LTRP_UNROLL
  for (int part = 0; part < 2; ++part) {
    const float sum = over_quad(softmax[part].sum, Sum());
    const int slot = first_slot + g + 8 * part;
    const int64_t token = token_of_slot(a.set, image, slot);
    if (token < 0) continue;
    const float share = token == removed ? 0.0F : 1.0F / sum;
    float* to = a.out + (static_cast<int64_t>(variant) * slots + slot) * width + head * a.head_dim;
    const float* anchor =
        a.anchor_output != nullptr
            ? a.anchor_output + (static_cast<int64_t>(image) * tokens + token) * width + head * a.head_dim
            : nullptr;
    LTRP_UNROLL
    for (int n = 0; n < Shape::kColumns; ++n) {
      const int d = 8 * n + 2 * t;
      if (pieces) {
        if (d >= head_dim) continue;
        const float2 base =
            anchor != nullptr ? *reinterpret_cast<const float2*>(anchor + d) : make_float2(0.0F, 0.0F);
        *reinterpret_cast<float2*>(to + d) =
            make_float2(fmaf(out[n][2 * part], share, -base.x), fmaf(out[n][2 * part + 1], share, -base.y));
      } else {
        LTRP_UNROLL
        for (int i = 0; i < 2; ++i) {
          if (d + i < head_dim) {
            to[d + i] = fmaf(out[n][2 * part + i], share, anchor != nullptr ? -anchor[d + i] : 0.0F);
          }
        }
      }
    }
  }
}

template <typename Shape>
void launch_shape(const args::Attention& a, bool pieces, Stream stream) {
  const int64_t needed = (a.set.rows_tokens + Shape::kRows - 1) / Shape::kRows;  // warps
  const int64_t tiles = (needed + Shape::kWarps - 1) / Shape::kWarps, warps = (needed + tiles - 1) / tiles;
  const int64_t blocks = a.set.variants * a.heads * tiles;
  if (blocks > 0x7fffffff) throw std::runtime_error("too many heads for one launch");
  if (blocks == 0) return;
  launch(attention_split_kernel<Shape>, dim3(static_cast<unsigned>(blocks)),
         dim3(static_cast<unsigned>(warps * kLanes)), Shape::kBytes, stream, a, static_cast<int>(tiles),
         pieces);
}

}  // namespace

void launch_attention_split(const args::Attention& a, Stream stream) {
  if (a.head_dim < 1 || a.head_dim > kWidestSplitHead) {
    throw std::runtime_error("heads of " + std::to_string(a.head_dim) +
                             " values are not supported on the tensor cores");
  }
  const bool pieces =
      in_pieces(a.head_dim, {a.qkv, a.bias, a.dqkv.values, a.dqkv.column_scale, a.anchor_output, a.out});
  if (a.head_dim <= 32) return launch_shape<SplitShape<32, 64, 4>>(a, pieces, stream);
  if (a.head_dim <= 64) return launch_shape<SplitShape<64, 64, 3>>(a, pieces, stream);
  if (a.head_dim <= 80) return launch_shape<SplitShape<80, 64, 2>>(a, pieces, stream);
  launch_shape<SplitShape<128, 32, 2>>(a, pieces, stream);
}

}  // namespace ltrp::cuda
