// What the attention kernels share: where q, k and v come from, how a head's tiles lie in shared memory, and
// the tile of logits that a warp computes in registers.
#pragma once

#include "kernels/cuda/rounding.cuh"

namespace ltrp::cuda {

// How a warp works on a tile. Its lanes stand in a grid of 8 x 4: lane l computes queries l % 8 + 8 i, for
// i < kQueries, and of those the keys l / 8 + 4 j of a tile of 32, or the output values 4 (l / 8 + 4 j) ...
// + 3. So four values that a lane reads of q and of k serve 4 kQueries or 32 multiplications each.
//
// Rows in shared memory are kDim + 4 floats apart, rows of probabilities 36: eight neighbouring rows then
// begin in different banks, and no access of 16 bytes meets another in a bank.
template <int kDim_, int kQueries_, int kWarps_, int kBlocks_>
struct HeadShape {
  static constexpr int kDim = kDim_;          // values of a head, the missing ones zero
  static constexpr int kQueries = kQueries_;  // of a lane
  static constexpr int kWarps = kWarps_;      // of a block, at most
  // Blocks on a multiprocessor. Before sm_90 shared memory has room for two, which may have more registers.
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  static constexpr int kBlocks = kBlocks_ == 3 ? 2 : kBlocks_;
#else
  static constexpr int kBlocks = kBlocks_;
#endif
  static constexpr int kRows = 8 * kQueries;  // queries of a warp
  static constexpr int kKeys = 32;            // of a tile
  static constexpr int kStride = kDim + 4;
  static constexpr int kShareStride = kKeys + 4;
  static constexpr int kChunks = kDim / 16;  // pieces of four output values that a lane has of a query
  static constexpr int kOwn = kRows * (kStride + kShareStride);  // floats of a warp's own
  static_assert(kDim % 16 == 0);
};

__device__ __forceinline__ int lane_of_thread() { return static_cast<int>(threadIdx.x) % kLanes; }
__device__ __forceinline__ int warp_of_thread() { return static_cast<int>(threadIdx.x) / kLanes; }

__device__ __forceinline__ Values<4> values_of(float4 x) { return {{x.x, x.y, x.z, x.w}}; }
__device__ __forceinline__ float4 packed(const Values<4>& x) {
  return make_float4(x.x[0], x.x[1], x.x[2], x.x[3]);
}

// One of q, k and v of one head: token t's values are base[t * base_stride ...] plus a product's, if there
// is one, at first + t * stride.
struct Operand {
  const float* base;
  int64_t base_stride;
  const void* product;
  Encoding encoding;
  int64_t first, stride;  // in values
  const float* scale;     // of token t's product; may be null
  const float* column_scale;
  int head_dim;
  bool pieces;  // whether four values may be read at once

  template <int kCount>
  __device__ __forceinline__ Values<kCount> piece(int64_t token, int d) const {
    Values<kCount> result = load_values<kCount>(base + token * base_stride + d);
    if (product == nullptr) return result;
    const int64_t at = first + token * stride + d;
    Values<kCount> more =
        encoding == Encoding::kBfloat16 ? load_stored<Encoding::kBfloat16, kCount>(product, at)
        : encoding == Encoding::kInt32  ? load_stored<Encoding::kInt32, kCount>(product, at)
                                        : load_stored<Encoding::kFloat32, kCount>(product, at);
    if (column_scale != nullptr) {
      const Values<kCount> columns = load_values<kCount>(column_scale + d);
      for_values<kCount>([&](int i) { more.x[i] *= columns.x[i]; });
    }
    const float by = scale != nullptr ? scale[token] : 1.0F;
    for_values<kCount>([&](int i) { result.x[i] = fmaf(more.x[i], by, result.x[i]); });
    return result;
  }

  // Values d ... d + 3 of a token, zeros beyond the head.
  __device__ __forceinline__ Values<4> four(int64_t token, int d) const {
    Values<4> result = {{0, 0, 0, 0}};
    if (pieces) {
      if (d < head_dim) result = piece<4>(token, d);
    } else {
      for_values<4>([&](int i) {
        if (d + i < head_dim) result.x[i] = piece<1>(token, d + i).x[0];
      });
    }
    return result;
  }
};

// q, k or v (part 0, 1, 2) of a head.
__device__ __forceinline__ Operand operand_of(const args::Attention& a, int64_t variant, int64_t image,
                                              int head, int part, bool pieces) {
  Operand result;
  const int64_t tokens = a.set.tokens, width = a.heads * a.head_dim;
  const int64_t column = (part * a.heads + head) * a.head_dim;
  if (a.bias != nullptr) {
    result.base = a.bias + column;
    result.base_stride = 0;
    result.stride = 3 * width;
    result.first = variant * tokens * result.stride + column;
  } else {
    result.base = a.qkv + ((image * a.heads + head) * 3 + part) * tokens * a.head_dim;
    result.base_stride = result.stride = a.head_dim;
    result.first = ((variant * a.heads + head) * 3 + part) * tokens * a.head_dim;
  }
  result.product = a.dqkv.values;
  result.encoding = a.dqkv.encoding;
  result.scale = a.dqkv.scale != nullptr ? a.dqkv.scale + variant * tokens : nullptr;
  result.column_scale = a.dqkv.column_scale != nullptr ? a.dqkv.column_scale + column : nullptr;
  result.head_dim = static_cast<int>(a.head_dim);
  result.pieces = pieces;
  return result;
}

// Values d ... d + 3 of a head's row in global memory; those beyond the head are zeros, and not stored.
__device__ __forceinline__ Values<4> load_four(const float* row, int d, int head_dim, bool pieces) {
  Values<4> result = {{0, 0, 0, 0}};
  if (pieces) {
    if (d < head_dim) result = load_values<4>(row + d);
  } else {
    for_values<4>([&](int i) {
      if (d + i < head_dim) result.x[i] = row[d + i];
    });
  }
  return result;
}
__device__ __forceinline__ void store_four(float* row, int d, int head_dim, bool pieces,
                                           const Values<4>& value) {
  if (pieces) {
    if (d < head_dim) store_values(row + d, value);
  } else {
    for_values<4>([&](int i) {
      if (d + i < head_dim) row[d + i] = value.x[i];
    });
  }
}

// Fills rows [0, rows) of a tile from operand.four(token_of(row), ...) * shrink, by `threads` threads of
// which this is number `thread`. Rows whose token is negative are zeros.
template <typename Shape, typename TokenOf>
__device__ __forceinline__ void fill_tile(const DynamicShared<float>& tile, int rows, const Operand& operand,
                                          float shrink, int thread, int threads, TokenOf token_of) {
  constexpr int kPieces = Shape::kDim / 4;
  for (int e = thread; e < rows * kPieces; e += threads) {
    const int row = e / kPieces, d = e % kPieces * 4;
    const int64_t token = token_of(row);
    Values<4> x = {{0, 0, 0, 0}};
    if (token >= 0) x = operand.four(token, d);
    for_values<4>([&](int i) { x.x[i] *= shrink; });
    tile.store4(row * Shape::kStride + d, packed(x));
  }
}

// The factor of q: logits are wanted over sqrt(head_dim), and in powers of two, which the exponential's
// instruction has.
__device__ __forceinline__ float query_factor(int head_dim) {
  return 1.4426950408889634F / sqrtf(static_cast<float>(head_dim));
}

// s[i][j] = q[l % 8 + 8 i] k[l / 8 + 4 j], both rows of shared tiles.
template <typename Shape, int kKeysPerLane>
__device__ __forceinline__ void logits(const DynamicShared<float>& q, const DynamicShared<float>& k,
                                       float (&s)[Shape::kQueries][kKeysPerLane]) {
  const int from_q = lane_of_thread() % 8 * Shape::kStride;
  const int from_k = lane_of_thread() / 8 * Shape::kStride;
  LTRP_UNROLL
  for (int i = 0; i < Shape::kQueries; ++i) {
    LTRP_UNROLL
    for (int j = 0; j < kKeysPerLane; ++j) s[i][j] = 0;
  }
  LTRP_NO_UNROLL
  for (int d = 0; d < Shape::kDim; d += 4) {
    Values<4> queries[Shape::kQueries];
    LTRP_UNROLL
    for (int i = 0; i < Shape::kQueries; ++i) {
      queries[i] = values_of(q.load4(from_q + i * 8 * Shape::kStride + d));
    }
    LTRP_UNROLL
    for (int j = 0; j < kKeysPerLane; ++j) {
      const Values<4> key = values_of(k.load4(from_k + j * 4 * Shape::kStride + d));
      LTRP_UNROLL
      for (int i = 0; i < Shape::kQueries; ++i) {
        for_values<4>([&](int e) { s[i][j] = fmaf(queries[i].x[e], key.x[e], s[i][j]); });
      }
    }
  }
}

// Over the four lanes that share a query.
template <typename Combine>
__device__ __forceinline__ float over_query(float x, Combine combine) {
  x = combine(x, __shfl_xor_sync(kAllLanes, x, 8));
  return combine(x, __shfl_xor_sync(kAllLanes, x, 16));
}

// A softmax over keys that come a tile at a time: the largest logit so far, and the sum of the powers of two
// relative to it. Without keys: -infinity and 0.
struct RunningSoftmax {
  float most;
  float sum;

  // Makes room for logits up to `top`; returns what everything summed so far is to be multiplied by.
  __device__ __forceinline__ float raise(float top) {
    const float before = most;
    most = fmaxf(most, top);
    // Without a key yet, infinities would be subtracted.
    const float shrink = most == before ? 1.0F : exp2f(before - most);
    sum *= shrink;
    return shrink;
  }
};

__device__ __forceinline__ int64_t token_of_slot(const args::Variants& set, int64_t image, int64_t slot) {
  if (slot >= set.rows_tokens) return -1;
  return set.queries != nullptr ? set.queries[image * set.rows_tokens + slot] : slot;
}

}  // namespace ltrp::cuda
