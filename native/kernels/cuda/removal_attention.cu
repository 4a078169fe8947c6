// The first block of the delta form: all variants of an image have the anchor's q, k and v, and each lacks
// one key.
#include <stdexcept>
#include <string>

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/rows.cuh"

namespace ltrp::cuda {
namespace {

// Where the removed key has most of the probability, 1 - p has lost its digits, and the others may have
// underflowed: the softmax is taken anew, over the other keys.
constexpr float kDominant = 0.5F;

// q, k or v (part 0, 1, 2) of an image's head.
__device__ __forceinline__ Operand operand_of(const args::RemovalAttention& a, int64_t image, int head,
                                              int part, bool pieces) {
  Operand result = {};
  result.base = a.qkv + ((image * a.heads + head) * 3 + part) * a.set.tokens * a.head_dim;
  result.base_stride = a.head_dim;
  result.head_dim = static_cast<int>(a.head_dim);
  result.pieces = pieces;
  return result;
}

__device__ __forceinline__ float dot(const Values<4>& a, const Values<4>& b, float sum) {
  for_values<4>([&](int i) { sum = fmaf(a.x[i], b.x[i], sum); });
  return sum;
}

// q of row `row` of the shared tile times k of a token.
template <typename Shape>
__device__ __forceinline__ float logit(const DynamicShared<float>& q, int row, const Operand& keys,
                                       int64_t token) {
  float sum = 0;
  LTRP_UNROLL_TWICE
  for (int d = 0; d < Shape::kDim; d += 4) {
    sum = dot(values_of(q.load4(row * Shape::kStride + d)), keys.four(token, d), sum);
  }
  return sum;
}

template <typename Combine>
__device__ __forceinline__ float over_warp(float x, Combine combine) {
  LTRP_UNROLL
  for (int apart = kLanes / 2; apart > 0; apart /= 2) {
    x = combine(x, __shfl_xor_sync(kAllLanes, x, apart));
  }
  return x;
}

// Attention of one query over all keys but `removed`, by a warp: its lanes take a key each for the logits
// and an output value each, of 32, for the rest. Writes the output minus the anchor's.
template <typename Shape>
__device__ __forceinline__ void attend_without(const DynamicShared<float>& q, int row, const Operand& keys,
                                               const Operand& values, int tokens, int removed,
                                               const float* anchor, float* out) {
  constexpr int kParts = (Shape::kDim + kLanes - 1) / kLanes;
  const int lane = lane_of_thread();
  RunningSoftmax softmax = {-INFINITY, 0};
  float sums[kParts] = {};
  for (int first = 0; first < tokens; first += kLanes) {
    const int key = first + lane;
    const bool is_key = key < tokens && key != removed;
    const float x = is_key ? logit<Shape>(q, row, keys, key) : -INFINITY;
    const float shrink = softmax.raise(over_warp(x, Largest()));
    const float share = is_key ? exp2f(x - softmax.most) : 0.0F;
    softmax.sum += over_warp(share, Sum());
    LTRP_UNROLL
    for (int c = 0; c < kParts; ++c) sums[c] *= shrink;
    for (int n = 0; n < kLanes && first + n < tokens; ++n) {
      const float by = __shfl_sync(kAllLanes, share, n);
      LTRP_UNROLL
      for (int c = 0; c < kParts; ++c) {
        const int d = lane + c * kLanes;
        if (d < values.head_dim) sums[c] = fmaf(by, values.piece<1>(first + n, d).x[0], sums[c]);
      }
    }
  }
  LTRP_UNROLL
  for (int c = 0; c < kParts; ++c) {
    const int d = lane + c * kLanes;
    if (d < values.head_dim) out[d] = sums[c] / softmax.sum - anchor[d];
  }
}

// out = p (o - v) / (1 - p) for every variant of an image, with the anchor's output o, the probability p
// that a query gives the removed key, and that key's value v: one head, up to 32 queries.
//
// All variants share one softmax. First the block's warps take tiles of 32 keys in turn and find, by the
// online softmax, the largest logit and the sum of exponentials of each query; o need not be computed, it is
// given. Then the warps take the image's variants in turn: a lane computes the removed key's logit for its
// query anew (2 D operations, against 4 D bytes that the variant's row is anyway), and the warp writes the
// rows. A query whose removed key has half of the probability or more gets a softmax of its own over the
// other keys; its own token's removal leaves the query without output: -o.
//
// Per head of an image with m variants, L tokens, D values: 2 L^2 D + 2 m L D operations; m L D values
// written and nothing else of that size: bound by writing from m = 10 on. Launch: one block of 128 threads
// for each image, head and 32 queries (64 threads for D above 80, 32 above 128). Every warp has keys of its
// own: 22 KiB of shared memory at D = 32, 43 at 64, 53 at 80, 50 at 128 and 256; at most 128 registers for
// D up to 80, so that shared memory sets what is resident.
template <typename Shape>
__global__ void __launch_bounds__(Shape::kWarps* kLanes, Shape::kBlocks)
    removal_attention_kernel(args::RemovalAttention a, int tiles, bool pieces) {
  constexpr int kStride = Shape::kStride, kKeys = Shape::kKeys, kRows = Shape::kRows;
  constexpr int kWarps = Shape::kWarps;
  const int lane = lane_of_thread(), warp = warp_of_thread();
  const DynamicShared<float> q(0, kRows * kStride);
  const DynamicShared<float> k((kRows + warp * kKeys) * kStride * 4, kKeys * kStride);
  __shared__ Shared<float, kWarps * kRows> most_of, sum_of;

  const int task = static_cast<int>(blockIdx.x) / tiles, heads = static_cast<int>(a.heads);
  const int64_t image = task / heads;
  const int head = task % heads, first_slot = static_cast<int>(blockIdx.x) % tiles * kRows;
  const int tokens = static_cast<int>(a.set.tokens), head_dim = static_cast<int>(a.head_dim);
  const int64_t slots = a.set.rows_tokens, width = a.heads * a.head_dim;
  const Operand keys = operand_of(a, image, head, 1, pieces), values = operand_of(a, image, head, 2, pieces);

  fill_tile<Shape>(q, kRows, operand_of(a, image, head, 0, pieces), query_factor(head_dim),
                   static_cast<int>(threadIdx.x), kWarps * kLanes,
                   [&](int row) { return token_of_slot(a.set, image, first_slot + row); });
  __syncthreads();

  RunningSoftmax softmax[Shape::kQueries];
  LTRP_UNROLL
  for (int i = 0; i < Shape::kQueries; ++i) softmax[i] = {-INFINITY, 0};
  for (int first = warp * kKeys; first < tokens; first += kWarps * kKeys) {
    fill_tile<Shape>(k, kKeys, keys, 1.0F, lane, kLanes,
                     [&](int row) { return first + row < tokens ? first + row : -1; });
    __syncwarp();
    float s[Shape::kQueries][8];
    logits<Shape, 8>(q, k, s);
    LTRP_UNROLL
    for (int i = 0; i < Shape::kQueries; ++i) {
      float top = -INFINITY;
      LTRP_UNROLL
      for (int j = 0; j < 8; ++j) {
        if (first + lane / 8 + 4 * j >= tokens) s[i][j] = -INFINITY;
        top = fmaxf(top, s[i][j]);
      }
      softmax[i].raise(over_query(top, Largest()));
      LTRP_UNROLL
      for (int j = 0; j < 8; ++j) softmax[i].sum += exp2f(s[i][j] - softmax[i].most);
    }
    __syncwarp();
  }
  LTRP_UNROLL
  for (int i = 0; i < Shape::kQueries; ++i) {
    const float sum = over_query(softmax[i].sum, Sum());
    if (lane < 8) {
      most_of[warp * kRows + lane + 8 * i] = softmax[i].most;
      sum_of[warp * kRows + lane + 8 * i] = sum;
    }
  }
  __syncthreads();

  // From here on a lane has one query; where a warp has 16, two lanes have the same.
  const int row = lane % kRows;
  float most = -INFINITY, sum = 0;
  LTRP_UNROLL
  for (int w = 0; w < kWarps; ++w) most = fmaxf(most, most_of[w * kRows + row]);
  LTRP_UNROLL
  for (int w = 0; w < kWarps; ++w) {
    sum = fmaf(sum_of[w * kRows + row], exp2f(most_of[w * kRows + row] - most), sum);
  }
  const int64_t token = token_of_slot(a.set, image, first_slot + row);

  int seen = 0;  // variants of this image so far
  for (int64_t first = 0; first < a.set.variants; first += kLanes) {
    const int64_t candidate = first + lane;
    unsigned mine = __ballot_sync(kAllLanes, candidate < a.set.variants && a.set.image[candidate] == image);
    for (; mine != 0; mine &= mine - 1, ++seen) {
      if (seen % kWarps != warp) continue;
      const int64_t variant = first + (__ffs(static_cast<int>(mine)) - 1);
      const int removed = a.removed[variant];
      const float p = exp2f(logit<Shape>(q, row, keys, removed) - most);
      const bool own = token == removed, dominant = !own && token >= 0 && p >= kDominant * sum;
      const float factor = own ? -1.0F : p / (sum - p);
      const float of_value = own ? 0.0F : 1.0F;
      const unsigned is_dominant = __ballot_sync(kAllLanes, dominant);
      float* out = a.out + (variant * slots + first_slot) * width + head * head_dim;

      for (int e = lane; e < kRows * (Shape::kDim / 4); e += kLanes) {
        const int to = e / (Shape::kDim / 4), d = e % (Shape::kDim / 4) * 4;
        const float by = __shfl_sync(kAllLanes, factor, to), value_by = __shfl_sync(kAllLanes, of_value, to);
        const int64_t to_token = token_of_slot(a.set, image, first_slot + to);
        if (to_token < 0 || (is_dominant >> to & 1U) != 0) continue;
        const float* anchor = a.anchor_output + (image * tokens + to_token) * width + head * head_dim;
        Values<4> x = load_four(anchor, d, head_dim, pieces);
        const Values<4> value = values.four(removed, d);
        for_values<4>([&](int i) { x.x[i] = fmaf(-value_by, value.x[i], x.x[i]) * by; });
        store_four(out + to * width, d, head_dim, pieces, x);
      }
      for (unsigned left = is_dominant & (kRows < 32 ? 0xffffU : kAllLanes); left != 0; left &= left - 1) {
        const int to = __ffs(static_cast<int>(left)) - 1;
        const int64_t to_token = token_of_slot(a.set, image, first_slot + to);
        attend_without<Shape>(q, to, keys, values, tokens, removed,
                              a.anchor_output + (image * tokens + to_token) * width + head * head_dim,
                              out + to * width);
      }
    }
  }
}

template <typename Shape>
void launch_shape(const args::RemovalAttention& a, int64_t images, bool pieces, Stream stream) {
  const int64_t tiles = (a.set.rows_tokens + Shape::kRows - 1) / Shape::kRows;
  const int64_t blocks = images * a.heads * tiles;
  if (blocks > 0x7fffffff) throw std::runtime_error("too many heads for one launch");
  if (blocks == 0) return;
  const int64_t bytes = 4 * (Shape::kRows + Shape::kWarps * Shape::kKeys) * Shape::kStride;
  launch(removal_attention_kernel<Shape>, dim3(static_cast<unsigned>(blocks)), dim3(Shape::kWarps * kLanes),
         bytes, stream, a, static_cast<int>(tiles), pieces);
}

}  // namespace

void launch_removal_attention(const args::RemovalAttention& a, int64_t images, Stream stream) {
  if (a.head_dim < 1 || a.head_dim > kWidestHead) {
    throw std::runtime_error("heads of " + std::to_string(a.head_dim) + " values are not supported");
  }
  const bool pieces = in_pieces(a.head_dim, {a.qkv, a.anchor_output, a.out});
  if (a.head_dim <= 32) return launch_shape<HeadShape<32, 4, 4, 4>>(a, images, pieces, stream);
  if (a.head_dim <= 64) return launch_shape<HeadShape<64, 4, 4, 4>>(a, images, pieces, stream);
  if (a.head_dim <= 80) return launch_shape<HeadShape<80, 4, 4, 4>>(a, images, pieces, stream);
  if (a.head_dim <= 128) return launch_shape<HeadShape<128, 4, 2, 4>>(a, images, pieces, stream);
  launch_shape<HeadShape<256, 2, 1, 4>>(a, images, pieces, stream);
}

}  // namespace ltrp::cuda
