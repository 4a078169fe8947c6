// Attention in full float32, one head of one variant at a time: q, k, v of the head are laid out in the
// second-level cache, the probabilities of a few queries at a time in the first.
//
// The difference of two attention outputs is taken of two float32 results, as in the direct form: two
// low-precision products per product (of the difference with the value and of the value with the difference)
// would cost what one float32 product costs.
#include "kernels/cpu/simd/attention.h"

#include "kernels/cpu/simd/vector.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {
namespace {

constexpr float kMinusInfinity = -3e38F;
constexpr int64_t kAhead = 8;                               // tokens that are prefetched
constexpr int kQueryBlock = 6;                              // queries at a time
constexpr int kKeyBlock = LTRP_SIMD_BYTES == 64 ? 4 : 2;    // vectors of keys at a time: registers allow it
constexpr int kValueBlock = LTRP_SIMD_BYTES == 64 ? 4 : 2;  // vectors of output at a time

inline int64_t padded(int64_t count) { return (count + kWidth - 1) / kWidth * kWidth; }

// One head's operands.
struct Head {
  int64_t tokens, keys;  // keys: tokens rounded up to whole vectors
  int64_t dim, values;   // values: dim rounded up
  float* k;              // [dim, keys], transposed
  float* v;              // [tokens, values]
  float* q;              // [queries, dim], scaled by 1 / sqrt(dim)
  float* p;              // [kQueryBlock, keys]
  float* o;              // [kQueryBlock, values]
  float* bias;           // [keys]: 0, or kMinusInfinity for keys that are not there
};

// Floats that each operand takes; the transposition writes whole blocks, so k is padded in both directions.
// One more row of p than there are queries in a block.
struct Sizes {
  int64_t k, v, q, p, o, bias;
  Sizes(const Variants& set, int64_t dim)
      : k(padded(dim) * padded(set.tokens)),
        v(set.tokens * padded(dim)),
        q(padded(set.rows_tokens * dim)),
        p((kQueryBlock + 1) * padded(set.tokens)),
        o(kQueryBlock * padded(dim)),
        bias(padded(set.tokens)) {}
};

Head head_in(float* memory, const Variants& set, int64_t dim) {
  const Sizes sizes(set, dim);
  Head head = {};
  head.tokens = set.tokens;
  head.keys = padded(set.tokens);
  head.dim = dim;
  head.values = padded(dim);
  head.k = memory;
  head.v = head.k + sizes.k;
  head.q = head.v + sizes.v;
  head.p = head.q + sizes.q;
  head.o = head.p + sizes.p;
  head.bias = head.o + sizes.o;
  return head;
}

// One of q, k and v of one head: token t's values are base[t * base_stride ...] plus the difference at
// t * stride.
struct Source {
  const float* base = nullptr;
  const uint16_t* bfloat16 = nullptr;  // at most one of the two: the difference
  const float* float32 = nullptr;
  const float* scale = nullptr;  // of token t's difference; may be null
  int64_t base_stride = 0;
  int64_t stride = 0;

  // A head's values of neighbouring tokens are a product's whole row apart, where no processor expects them.
  void prefetch(int64_t token, int64_t offset) const {
    const int64_t at = token * stride + offset;
    if (bfloat16 != nullptr) {
      __builtin_prefetch(bfloat16 + at);
    } else if (float32 != nullptr) {
      __builtin_prefetch(float32 + at);
    }
  }

  Floats part(int64_t token, int64_t offset, int64_t count) const {
    const int64_t at = token * stride + offset;
    Floats x = load_part(base + token * base_stride + offset, count);
    if (bfloat16 != nullptr) {
      x += load_part_bfloat16(bfloat16 + at, count) * (scale != nullptr ? scale[token] : 1.0F);
    } else if (float32 != nullptr) {
      x += load_part(float32 + at, count);
    }
    return x;
  }
};

// Fills head.k, transposed.
inline void load_keys(const Head& head, const Source& keys) {
  Floats block[kWidth];
  for (int64_t d = 0; d < head.dim; d += kWidth) {
    const int64_t count = head.dim - d < kWidth ? head.dim - d : kWidth;
    for (int64_t t = 0; t < head.keys; t += kWidth) {
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) block[i] = t + i < head.tokens ? keys.part(t + i, d, count) : Floats{};
      // The first values of a token bring the others along: no more than a few lines.
      if (d == 0) {
        for (int64_t i = t + kWidth; i < t + 2 * kWidth && i < head.tokens; ++i) {
          for (int64_t line = 0; line < head.dim; line += kWidth) keys.prefetch(i, line);
        }
      }
      transpose(block);
#pragma GCC unroll 16
      for (int i = 0; i < kWidth; ++i) store(head.k + (d + i) * head.keys + t, block[i]);
    }
  }
}

inline void load_values(const Head& head, const Source& values) {
  for (int64_t t = 0; t < head.tokens; ++t) {
    for (int64_t d = 0; d < head.dim; d += kWidth) {
      const int64_t count = head.dim - d < kWidth ? head.dim - d : kWidth;
      if (t + kAhead < head.tokens) values.prefetch(t + kAhead, d);
      store(head.v + t * head.values + d, values.part(t, d, count));
    }
  }
}

// p[r][keys] = q[first + r] k for r < kRows; `top` keeps each row's largest logits.
template <int kRows, int kVectors>
[[gnu::noinline]] void logits_tile(const Head& head, int64_t first, int64_t key, Floats* top) {
  Floats sum[kRows][kVectors] = {};
  const float* q = head.q + first * head.dim;
  const float* k = head.k + key;
  for (int64_t d = 0; d < head.dim; ++d, k += head.keys) {
    Floats keys[kVectors];
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) keys[c] = load(k + c * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats scalar = fill(q[r * head.dim + d]);
#pragma GCC unroll 8
      for (int c = 0; c < kVectors; ++c) sum[r][c] += scalar * keys[c];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) {
      const Floats logits = sum[r][c] + load(head.bias + key + c * kWidth);
      store(head.p + r * head.keys + key + c * kWidth, logits);
      top[r] = larger(top[r], logits);
    }
  }
}

template <int kRows>
inline void logits(const Head& head, int64_t first, Floats* top) {
  int64_t key = 0;
  for (; key + kKeyBlock * kWidth <= head.keys; key += kKeyBlock * kWidth) {
    logits_tile<kRows, kKeyBlock>(head, first, key, top);
  }
  const int64_t left = (head.keys - key) / kWidth;
  if constexpr (kKeyBlock > 2) {
    if (left == 3) logits_tile<kRows, 3>(head, first, key, top);
    if (left == 2) logits_tile<kRows, 2>(head, first, key, top);
  }
  if (left == 1) logits_tile<kRows, 1>(head, first, key, top);
}

// p = exp(p - max); returns the sum of the row. `top`: its largest logits, lane by lane. Where logits
// overflow there is no softmax: the sum is NaN, as infinity less infinity is.
inline float exponentials(const Head& head, int r, Floats top) {
  float* p = head.p + r * head.keys;
  float most = largest_of(top);
  if (!(most > kMinusInfinity)) most = __builtin_nanf("");
  Floats sum = {};
  for (int64_t key = 0; key < head.keys; key += kWidth) {
    const Floats e = exponential(load(p + key) - most);
    store(p + key, e);
    sum += e;
  }
  return sum_of(sum);
}

// o[r] = p[r] v for r < kRows.
template <int kRows, int kVectors>
[[gnu::noinline]] void values_tile(const Head& head, int64_t offset) {
  Floats sum[kRows][kVectors] = {};
  const float* v = head.v + offset;
  for (int64_t t = 0; t < head.tokens; ++t, v += head.values) {
    Floats values[kVectors];
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) values[c] = load(v + c * kWidth);
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      const Floats scalar = fill(head.p[r * head.keys + t]);
#pragma GCC unroll 8
      for (int c = 0; c < kVectors; ++c) sum[r][c] += scalar * values[c];
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
#pragma GCC unroll 8
    for (int c = 0; c < kVectors; ++c) store(head.o + r * head.values + offset + c * kWidth, sum[r][c]);
  }
}

template <int kRows>
inline void weighted_values(const Head& head) {
  int64_t offset = 0;
  for (; offset + kValueBlock * kWidth <= head.values; offset += kValueBlock * kWidth) {
    values_tile<kRows, kValueBlock>(head, offset);
  }
  const int64_t left = (head.values - offset) / kWidth;
  if constexpr (kValueBlock > 2) {
    if (left == 3) values_tile<kRows, 3>(head, offset);
    if (left == 2) values_tile<kRows, 2>(head, offset);
  }
  if (left == 1) values_tile<kRows, 1>(head, offset);
}

// Attention of queries [first, first + kRows): unnormalised outputs in o, sums of the probabilities in
// `sums`.
template <int kRows>
inline void attend(const Head& head, int64_t first, float* sums) {
  Floats top[kRows];
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) top[r] = fill(kMinusInfinity);
  logits<kRows>(head, first, top);
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) sums[r] = exponentials(head, r, top[r]);
  weighted_values<kRows>(head);
}

inline void attend_rows(const Head& head, int64_t first, int64_t rows, float* sums) {
  switch (rows) {
    case 6:
      return attend<6>(head, first, sums);
    case 5:
      return attend<5>(head, first, sums);
    case 4:
      return attend<4>(head, first, sums);
    case 3:
      return attend<3>(head, first, sums);
    case 2:
      return attend<2>(head, first, sums);
    default:
      return attend<1>(head, first, sums);
  }
}

// Calls body(offset, count) over a head's `dim` values.
template <typename Body>
inline void for_dim(int64_t dim, Body body) {
  for (int64_t d = 0; d < dim; d += kWidth)
    body(d, dim - d < kWidth ? dim - d : static_cast<int64_t>(kWidth));
}

inline int64_t token_of(const Variants& set, int64_t image, int64_t slot) {
  return set.queries != nullptr ? set.queries[image * set.rows_tokens + slot] : slot;
}

inline void fill_bias(const Head& head, int64_t removed) {
  for (int64_t key = 0; key < head.keys; ++key) {
    head.bias[key] = key >= head.tokens || key == removed ? kMinusInfinity : 0;
  }
}

// Scaled queries of the set's slots into head.q.
inline void load_queries(const Head& head, const Source& queries, const Variants& set, int64_t image) {
  const float shrink = 1.0F / __builtin_sqrtf(static_cast<float>(head.dim));
  for (int64_t slot = 0; slot < set.rows_tokens; ++slot) {
    const int64_t token = token_of(set, image, slot);
    for_dim(head.dim, [&](int64_t d, int64_t count) {
      store_part(head.q + slot * head.dim + d, queries.part(token, d, count) * shrink, count);
    });
  }
}

// Where part 0, 1 or 2 (q, k or v) of head h of a variant comes from.
Source source_of(const Attention& args, int64_t variant, int64_t h, int part) {
  const Variants& set = args.set;
  const int64_t width = args.heads * args.head_dim, part_values = set.tokens * args.head_dim;
  Source result;
  int64_t difference = 0;
  if (args.bias != nullptr) {
    const int64_t column = (part * args.heads + h) * args.head_dim;
    result.base = args.bias + column;
    result.stride = 3 * width;
    difference = variant * set.tokens * result.stride + column;
  } else {
    result.base = args.qkv + ((set.image[variant] * args.heads + h) * 3 + part) * part_values;
    result.base_stride = result.stride = args.head_dim;
    difference = ((variant * args.heads + h) * 3 + part) * part_values;
  }
  const Product& product = args.dqkv;
  if (product.values != nullptr && product.encoding == Encoding::kFloat32) {
    result.float32 = static_cast<const float*>(product.values) + difference;
  } else if (product.values != nullptr) {
    result.bfloat16 = static_cast<const uint16_t*>(product.values) + difference;
    if (product.scale != nullptr) result.scale = product.scale + variant * set.tokens;
  }
  return result;
}

void attention_task(const Attention& args, const Head& head, int64_t task, const Stop& stop) {
  const Variants& set = args.set;
  const int64_t variant = task / args.heads, h = task % args.heads;
  const int64_t image = set.image[variant], width = args.heads * args.head_dim;
  const int64_t removed = args.removed != nullptr ? args.removed[variant] : -1;
  load_queries(head, source_of(args, variant, h, 0), set, image);
  load_keys(head, source_of(args, variant, h, 1));
  load_values(head, source_of(args, variant, h, 2));
  fill_bias(head, removed);

  float sums[kQueryBlock];
  for (int64_t first = 0; first < set.rows_tokens; first += kQueryBlock) {
    if (stop()) return;
    const int64_t rows = set.rows_tokens - first < kQueryBlock ? set.rows_tokens - first : kQueryBlock;
    attend_rows(head, first, rows, sums);
    for (int64_t r = 0; r < rows; ++r) {
      float* out = args.out + (variant * set.rows_tokens + first + r) * width + h * args.head_dim;
      const int64_t token = token_of(set, image, first + r);
      const float* anchor =
          args.anchor_output != nullptr
              ? args.anchor_output + (image * set.tokens + token) * width + h * args.head_dim
              : nullptr;
      const float share = 1.0F / sums[r];
      for_dim(args.head_dim, [&](int64_t d, int64_t count) {
        // A token that is not there attends to nothing; where it was the only one, its row is NaN.
        Floats x = token == removed ? Floats{} : load(head.o + r * head.values + d) * share;
        if (anchor != nullptr) x -= load_part(anchor + d, count);
        store_part(out + d, x, count);
      });
    }
  }
}

// Where the removed key has most of the probability, 1 - p has lost its digits, and the others may have
// underflowed: the softmax is taken anew, over the other keys.
constexpr float kDominant = 0.5F;

const float* without_key(const Head& head, int64_t query, int64_t removed, float* sum) {
  float* p = head.p + kQueryBlock * head.keys;
  const float* q = head.q + query * head.dim;
  Floats top = fill(kMinusInfinity);
  for (int64_t key = 0; key < head.keys; key += kWidth) {
    Floats x = load(head.bias + key);
    for (int64_t d = 0; d < head.dim; ++d) x += load(head.k + d * head.keys + key) * q[d];
    if (key <= removed && removed < key + kWidth) x[removed - key] = kMinusInfinity;
    store(p + key, x);
    top = larger(top, x);
  }
  *sum = exponentials(head, kQueryBlock, top);
  return p;
}

void removal_task(const RemovalAttention& args, const Head& head, int64_t image, int64_t h,
                  const Stop& stop) {
  const Variants& set = args.set;
  const int64_t width = args.heads * args.head_dim, part_values = set.tokens * args.head_dim;
  Source source;
  source.base_stride = source.stride = args.head_dim;
  source.base = args.qkv + (image * args.heads + h) * 3 * part_values;
  load_queries(head, source, set, image);
  source.base += part_values;
  load_keys(head, source);
  source.base += part_values;
  load_values(head, source);
  fill_bias(head, -1);

  float sums[kQueryBlock + 1];
  for (int64_t first = 0; first < set.rows_tokens; first += kQueryBlock) {
    if (stop()) return;
    const int64_t rows = set.rows_tokens - first < kQueryBlock ? set.rows_tokens - first : kQueryBlock;
    attend_rows(head, first, rows, sums);
    for (int64_t r = 0; r < rows; ++r) {
      const int64_t token = token_of(set, image, first + r);
      const float* anchor = args.anchor_output + (image * set.tokens + token) * width + h * args.head_dim;
      const float* p = head.p + r * head.keys;
      for (int64_t variant = 0; variant < set.variants; ++variant) {
        if (set.image[variant] != image) continue;
        const int64_t removed = args.removed[variant];
        float* out = args.out + (variant * set.rows_tokens + first + r) * width + h * args.head_dim;
        const float* v = head.v + removed * head.values;
        if (token == removed) {
          for_dim(args.head_dim, [&](int64_t d, int64_t count) {
            store_part(out + d, -load_part(anchor + d, count), count);
          });
        } else if (p[removed] < kDominant * sums[r]) {
          const float share = p[removed] / (sums[r] - p[removed]);
          for_dim(args.head_dim, [&](int64_t d, int64_t count) {
            store_part(out + d, (load_part(anchor + d, count) - load(v + d)) * share, count);
          });
        } else {
          const float* others = without_key(head, first + r, removed, sums + kQueryBlock);
          for_dim(args.head_dim, [&](int64_t d, int64_t count) {
            Floats x = {};
            for (int64_t t = 0; t < set.tokens; ++t) x += load(head.v + t * head.values + d) * others[t];
            store_part(out + d, x * (1.0F / sums[kQueryBlock]) - load_part(anchor + d, count), count);
          });
        }
      }
    }
  }
}

}  // namespace

int64_t attention_workspace(const Variants& set, int64_t head_dim) {
  const Sizes sizes(set, head_dim);
  return sizes.k + sizes.v + sizes.q + sizes.p + sizes.o + sizes.bias;
}

void attention(const Attention& args, int64_t begin, int64_t end, float* workspace, const Stop& stop) {
  const Head head = head_in(workspace, args.set, args.head_dim);
  for (int64_t task = begin; task < end; ++task) {
    attention_task(args, head, task, stop);
  }
}

void removal_attention(const RemovalAttention& args, int64_t begin, int64_t end, float* workspace,
                       const Stop& stop) {
  const Head head = head_in(workspace, args.set, args.head_dim);
  for (int64_t task = begin; task < end; ++task) {
    removal_task(args, head, task / args.heads, task % args.heads, stop);
  }
}

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
