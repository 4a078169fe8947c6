// Fused multi-head attention of variants: q, k and v are the anchor's plus a difference, the removed token is
// no key, and the anchor's output is subtracted from the result.
#include <stdexcept>
#include <string>

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.cuh"

namespace ltrp::cuda {
namespace {

// What a lane knows of its queries while keys go by.
template <typename Shape>
struct Attending {
  RunningSoftmax softmax[Shape::kQueries];  // sum: of this lane's keys only
  Values<4> out[Shape::kQueries][Shape::kChunks];
};

// Takes a tile of keys, of which the first is token `first_key`: logits, the maximum so far, probabilities
// into this warp's part of shared memory, and those times v.
template <typename Shape>
__device__ __forceinline__ void attend(Attending<Shape>& state, const DynamicShared<float>& q,
                                       const DynamicShared<float>& k, const DynamicShared<float>& v,
                                       const DynamicShared<float>& shares, int first_key, int tokens,
                                       int removed) {
  constexpr int kKeysPerLane = Shape::kKeys / 4;
  const int row = lane_of_thread() % 8, column = lane_of_thread() / 8;
  float s[Shape::kQueries][kKeysPerLane];
  logits<Shape, kKeysPerLane>(q, k, s);
  LTRP_UNROLL
  for (int j = 0; j < kKeysPerLane; ++j) {
    const int key = first_key + column + 4 * j;
    const bool is_key = key < tokens && key != removed;
    LTRP_UNROLL
    for (int i = 0; i < Shape::kQueries; ++i) s[i][j] = is_key ? s[i][j] : -INFINITY;
  }
  LTRP_UNROLL
  for (int i = 0; i < Shape::kQueries; ++i) {
    float top = s[i][0];
    LTRP_UNROLL
    for (int j = 1; j < kKeysPerLane; ++j) top = fmaxf(top, s[i][j]);
    RunningSoftmax& softmax = state.softmax[i];
    const float shrink = softmax.raise(over_query(top, Largest()));
    LTRP_UNROLL
    for (int c = 0; c < Shape::kChunks; ++c) {
      for_values<4>([&](int e) { state.out[i][c].x[e] *= shrink; });
    }
    // A tile without any key yet: nothing to subtract from.
    const float most = softmax.most == -INFINITY ? 0.0F : softmax.most;
    LTRP_UNROLL
    for (int j = 0; j < kKeysPerLane; ++j) {
      const float share = exp2f(s[i][j] - most);
      softmax.sum += share;
      shares[(row + 8 * i) * Shape::kShareStride + column + 4 * j] = share;
    }
  }
  __syncwarp();
  // The last tile is often nearly empty: 197 tokens leave five.
  const int keys = min(Shape::kKeys, tokens - first_key);
  LTRP_UNROLL_TWICE
  for (int key = 0; key < keys; key += 4) {
    Values<4> share[Shape::kQueries];
    LTRP_UNROLL
    for (int i = 0; i < Shape::kQueries; ++i) {
      share[i] = values_of(shares.load4((row + 8 * i) * Shape::kShareStride + key));
    }
    LTRP_UNROLL
    for (int e = 0; e < 4; ++e) {
      LTRP_UNROLL
      for (int c = 0; c < Shape::kChunks; ++c) {
        const Values<4> value = values_of(v.load4((key + e) * Shape::kStride + 4 * (column + 4 * c)));
        LTRP_UNROLL
        for (int i = 0; i < Shape::kQueries; ++i) {
          for_values<4>(
              [&](int x) { state.out[i][c].x[x] = fmaf(share[i].x[e], value.x[x], state.out[i][c].x[x]); });
        }
      }
    }
  }
}

// out = softmax((q + dq)(k + dk)^T / sqrt(head_dim)) (v + dv) - anchor_output, for one head of one variant
// and up to kWarps * kRows of its queries, in float32.
//
// One pass over the keys with the online softmax (Milakov and Gimelshein 2018; the tiling is that of
// FlashAttention, Dao et al. 2022): a tile of 32 keys and values is put together in shared memory from the
// anchor's and the variant's difference; every warp multiplies its 32 queries with them in registers, raises
// the maximum, adds up. No matrix of tokens x tokens exists. float32 throughout, because the result is a
// difference of two nearly equal outputs (docs/engine.md).
//
// Per head of one variant, L tokens, D values: 4 L^2 D operations and L^2 exponentials, against some 6 L D
// values read (the anchor's from the second-level cache) and L D written: bound by float32 arithmetic from
// L = 50 on. In the inner loops 12 reads of 16 bytes from shared memory go with 128 multiply-adds (q k^T),
// 4 + 4 D / 16 with D (p v) per four keys.
//
// Launch: one block for each head, variant and run of kWarps * 32 queries; blocks of a head are neighbours,
// so that its operands come from the cache. As few warps as the queries need. Registers and shared memory:
//   D <= 32   128 threads, 3 blocks, at most 168 registers,  46 KiB
//   D <= 64   128 threads, 3 blocks, at most 168 registers,  69 KiB
//   D <= 80   128 threads, 2 blocks, at most 255 registers,  81 KiB
//   D <= 128   64 threads, 2 blocks, at most 255 registers,  75 KiB
//   D <= 256   32 threads, 2 blocks, at most 255 registers,  84 KiB
// The blocks are what an H100 holds. Before sm_90 there is room for two, which get up to 255 registers;
// devices with 100 KiB of shared memory hold one where it takes more than half of that.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kWarps* kLanes, Shape::kBlocks)
    attention_kernel(args::Attention a, int tiles, bool pieces) {
  constexpr int kStride = Shape::kStride, kKeys = Shape::kKeys, kRows = Shape::kRows;
  const int threads = static_cast<int>(blockDim.x), thread = static_cast<int>(threadIdx.x);
  const DynamicShared<float> k(0, kKeys * kStride), v(kKeys * kStride * 4, kKeys * kStride);
  // Every warp has its own queries and probabilities.
  const int own = 2 * kKeys * kStride + warp_of_thread() * Shape::kOwn;
  const DynamicShared<float> q(own * 4, kRows * kStride);
  const DynamicShared<float> shares((own + kRows * kStride) * 4, kRows * Shape::kShareStride);

  const int task = static_cast<int>(blockIdx.x) / tiles, tile = static_cast<int>(blockIdx.x) % tiles;
  const int heads = static_cast<int>(a.heads), variant = task / heads, head = task % heads;
  const int image = a.set.image[variant];
  const int tokens = static_cast<int>(a.set.tokens), slots = static_cast<int>(a.set.rows_tokens);
  const int head_dim = static_cast<int>(a.head_dim);
  const int removed = a.removed != nullptr ? a.removed[variant] : -1;
  const int first_slot = tile * (threads / kLanes * kRows) + warp_of_thread() * kRows;

  fill_tile<Shape>(q, kRows, operand_of(a, variant, image, head, 0, pieces), query_factor(head_dim),
                   lane_of_thread(), kLanes,
                   [&](int row) { return token_of_slot(a.set, image, first_slot + row); });

  Attending<Shape> state;
  LTRP_UNROLL
  for (int i = 0; i < Shape::kQueries; ++i) {
    state.softmax[i] = {-INFINITY, 0};
    LTRP_UNROLL
    for (int c = 0; c < Shape::kChunks; ++c) state.out[i][c] = {{0, 0, 0, 0}};
  }
  const bool has_queries = first_slot < slots;
  for (int first = 0; first < tokens; first += kKeys) {
    const auto key_of = [&](int row) { return first + row < tokens ? first + row : -1; };
    fill_tile<Shape>(k, kKeys, operand_of(a, variant, image, head, 1, pieces), 1.0F, thread, threads, key_of);
    fill_tile<Shape>(v, kKeys, operand_of(a, variant, image, head, 2, pieces), 1.0F, thread, threads, key_of);
    __syncthreads();
    if (has_queries) attend<Shape>(state, q, k, v, shares, first, tokens, removed);
    __syncthreads();
  }
  if (!has_queries) return;

  const int64_t width = a.heads * a.head_dim;
  LTRP_UNROLL
  for (int i = 0; i < Shape::kQueries; ++i) {
    const float sum = over_query(state.softmax[i].sum, Sum());
    const int slot = first_slot + lane_of_thread() % 8 + 8 * i;
    const int64_t token = token_of_slot(a.set, image, slot);
    if (token < 0) continue;
    const float share = token == removed ? 0.0F : 1.0F / sum;
    float* out = a.out + (static_cast<int64_t>(variant) * slots + slot) * width + head * a.head_dim;
    const float* anchor =
        a.anchor_output != nullptr
            ? a.anchor_output + (static_cast<int64_t>(image) * tokens + token) * width + head * a.head_dim
            : nullptr;
    LTRP_UNROLL
    for (int c = 0; c < Shape::kChunks; ++c) {
      const int d = 4 * (lane_of_thread() / 8 + 4 * c);
      Values<4> x = state.out[i][c];
      for_values<4>([&](int e) { x.x[e] *= share; });
      if (anchor != nullptr) {
        const Values<4> base = load_four(anchor, d, head_dim, pieces);
        for_values<4>([&](int e) { x.x[e] -= base.x[e]; });
      }
      store_four(out, d, head_dim, pieces, x);
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
  const int64_t bytes = 4 * (2 * Shape::kKeys * Shape::kStride + warps * Shape::kOwn);
  launch(attention_kernel<Shape>, dim3(static_cast<unsigned>(blocks)),
         dim3(static_cast<unsigned>(warps * kLanes)), bytes, stream, a, static_cast<int>(tiles), pieces);
}

}  // namespace

void launch_attention(const args::Attention& a, Stream stream) {
  if (a.head_dim < 1 || a.head_dim > kWidestHead) {
    throw std::runtime_error("heads of " + std::to_string(a.head_dim) + " values are not supported");
  }
  const bool pieces =
      in_pieces(a.head_dim, {a.qkv, a.bias, a.dqkv.values, a.dqkv.column_scale, a.anchor_output, a.out});
  if (a.head_dim <= 32) return launch_shape<HeadShape<32, 4, 4, 3>>(a, pieces, stream);
  if (a.head_dim <= 64) return launch_shape<HeadShape<64, 4, 4, 3>>(a, pieces, stream);
  if (a.head_dim <= 80) return launch_shape<HeadShape<80, 4, 4, 2>>(a, pieces, stream);
  if (a.head_dim <= 128) return launch_shape<HeadShape<128, 4, 2, 2>>(a, pieces, stream);
  launch_shape<HeadShape<256, 2, 1, 2>>(a, pieces, stream);
}

}  // namespace ltrp::cuda
