// Kernels that go through rows one at a time: what LibTorch would do in many passes over memory, in one.
#include "kernels/cpu/simd/rows.h"

#include "kernels/cpu/simd/vector.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {
namespace {

struct Row {
  int64_t id;
  int64_t anchor;
};

inline int64_t id_of(const PackedRows& rows, int64_t packed) {
  return rows.ids != nullptr ? rows.ids[packed] : rows.first + packed;
}

inline Row locate(const Variants& set, const PackedRows& rows, int64_t packed) {
  const int64_t id = id_of(rows, packed);
  const int64_t variant = id / set.rows_tokens, slot = id % set.rows_tokens;
  const int64_t image = set.image[variant];
  const int64_t token = set.queries != nullptr ? set.queries[image * set.rows_tokens + slot] : slot;
  return {id, image * set.tokens + token};
}

// Of a deviation. Where its square has overflowed, NaN: a row divided by infinity would pass for zeros.
inline float inverse_of(float deviation) {
  return deviation <= 3.4e38F ? 1.0F / deviation : __builtin_nanf("");
}

// Rounds one row that value(offset, count) yields; lanes beyond count must be zero or are ignored. kZero: the
// byte that stands for zero.
template <int kZero = 128, typename Value>
inline void round_row(const Rounded& out, int64_t row, int64_t width, float* scratch, Value value) {
  if (out.encoding == Encoding::kBfloat16) {
    uint16_t* to = static_cast<uint16_t*>(out.values) + row * width;
    for_vectors(width, [&](int64_t i, int64_t count) {
      const Halves x = narrow(value(i, count));
      __builtin_memcpy(to + i, &x, static_cast<unsigned long>(count) * 2);
    });
    return;
  }
  if (out.encoding == Encoding::kFloat32) {
    float* to = static_cast<float*>(out.values) + row * width;
    for_vectors(width, [&](int64_t i, int64_t count) { store_part(to + i, value(i, count), count); });
    return;
  }
  Floats top = {}, whole = {};
  for_vectors(width, [&](int64_t i, int64_t count) {
    const Floats x = value(i, count);
    store_part(scratch + i, x, count);
    // Lanes beyond the row may hold anything: read back what was stored.
    const Floats own = count == kWidth ? x : load_some(scratch + i, count);
    // In units of 127 steps, on either side of zero.
    top = larger(
        top, kZero == 128 ? magnitude(own) : larger(own * (127.0F / (255 - kZero)), own * (-127.0F / kZero)));
    whole += own * 0.0F;
  });
  const float most = largest_of(top);
  // No byte stands for NaN or infinity: the scale does, for the whole row. Zero unless there are such.
  const float scale = (most > 0 ? most / 127.0F : 1.0F) + sum_of(whole);
  // The reciprocal of a tiny scale overflows; its row is as good as zero.
  const float inverse = most > 1e-36F ? 127.0F / most : 0.0F;
  out.scale[row] = scale;
  uint8_t* to = static_cast<uint8_t*>(out.values) + row * width;
  for_vectors(width, [&](int64_t i, int64_t count) {
    const Bytes x = to_bytes<kZero>(load_part(scratch + i, count) * inverse);
    __builtin_memcpy(to + i, &x, static_cast<unsigned long>(count));
  });
}

}  // namespace

// Scratch for one row, on the stack: rows are a few thousand values.
#define LTRP_SCRATCH(width) \
  static_cast<float*>(__builtin_alloca_with_align(static_cast<unsigned long>(width) * sizeof(float), 512))

void layer_norm_difference(const LayerNormDifference& args, int64_t begin, int64_t end) {
  const int64_t width = args.width;
  float* scratch = LTRP_SCRATCH(width);
  const float per_width = 1.0F / static_cast<float>(width);
  for (int64_t r = begin; r < end; ++r) {
    const Row row = locate(args.set, args.rows, r);
    float* d = args.d + row.id * width;
    const float* normed = args.normed + row.anchor * width;
    Floats sum = {}, square = {}, cross = {};
    const auto accumulate = [&](Floats x, int64_t i, int64_t count) {
      sum += x;
      square += x * x;
      cross += x * load_part(normed + i, count);
    };
    if (args.update.values != nullptr) {
      const ProductRow update = row_of(args.update, r, width);
      for_vectors(width, [&](int64_t i, int64_t count) {
        const Floats x = load_part(d + i, count) + update.part(i, count);
        store_part(d + i, x, count);
        accumulate(x, i, count);
      });
    } else {
      for_vectors(width, [&](int64_t i, int64_t count) { accumulate(load_part(d + i, count), i, count); });
    }
    // With y = (s - mean) / sigma, sigma^2 = variance + eps, and d' = d - mean(d):
    //   variance(s + d) - variance(s) = 2 sigma mean(y d) + mean(d'^2)
    //   LN(s + d) - LN(s) = weight * (y (ratio - 1) + d' ratio / sigma),  ratio = sigma / sigma'
    // where ratio - 1 = -t / (1 + ratio) for t = 1 - ratio^2: nothing large is subtracted.
    const float sigma = args.deviation[row.anchor];
    const float mean = sum_of(sum) * per_width;
    const float spread = sum_of(square) * per_width - mean * mean;
    const float change = 2.0F * sigma * sum_of(cross) * per_width + (spread > 0 ? spread : 0.0F);
    // Rounding must not make a variance that all but vanishes negative.
    const float after = __builtin_fmaxf(sigma * sigma + change, sigma * sigma * 1e-6F);
    const float ratio = sigma / __builtin_sqrtf(after);
    const float of_normed = -(change / after) / (1.0F + ratio);
    const float of_d = ratio / sigma;
    const auto value = [&](int64_t i, int64_t count) {
      return load_part(args.weight + i, count) *
             (load_part(normed + i, count) * of_normed + (load_part(d + i, count) - mean) * of_d);
    };
    if (args.squares != nullptr) {
      Floats total = {};
      for_vectors(width, [&](int64_t i, int64_t count) {
        const Floats x = value(i, count);  // zero beyond the row, as the weight is
        total += x * x;
      });
      args.squares[r] = sum_of(total);
    } else {
      round_row(args.out, r, width, scratch, value);
    }
  }
}

void gelu_difference(const GeluDifference& args, int64_t begin, int64_t end) {
  const int64_t width = args.width;
  float* scratch = LTRP_SCRATCH(width);
  for (int64_t r = begin; r < end; ++r) {
    const Row row = locate(args.set, args.rows, r);
    const ProductRow du = row_of(args.du, r, width);
    const float* u = args.u + row.anchor * width;
    const float* gelu_u = args.gelu_u + row.anchor * width;
    round_row(args.out, r, width, scratch, [&](int64_t i, int64_t count) {
      return gelu(load_part(u + i, count) + du.part(i, count)) - load_part(gelu_u + i, count);
    });
  }
}

void round_rows(const RoundRows& args, int64_t begin, int64_t end) {
  float* scratch = LTRP_SCRATCH(args.width);
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x + id_of(args.rows, r) * args.width;
    round_row(args.out, r, args.width, scratch,
              [&](int64_t i, int64_t count) { return load_part(x + i, count); });
  }
}

void add_rows(const AddRows& args, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    float* x = args.x + id_of(args.rows, r) * args.width;
    const ProductRow update = row_of(args.update, r, args.width);
    for_vectors(args.width, [&](int64_t i, int64_t count) {
      store_part(x + i, load_part(x + i, count) + update.part(i, count), count);
    });
  }
}

void row_sums(const RowSums& args, int64_t begin, int64_t end) {
  for (int64_t r = begin; r < end; ++r) {
    const ProductRow x = row_of(args.x, r, args.width);
    Floats sum = {};
    for_vectors(args.width, [&](int64_t i, int64_t count) {
      const Floats value = x.part(i, count);
      sum += args.squared ? value * value : magnitude(value);
    });
    args.sums[r] = static_cast<double>(sum_of(sum));
  }
}

void split_heads(const SplitHeads& args, int64_t begin, int64_t end) {
  const int64_t parts = 3 * args.heads, row_bytes = parts * args.head_bytes;
  for (int64_t variant = begin; variant < end; ++variant) {
    char* out = args.out + variant * args.tokens * row_bytes;
    for (int64_t head = 0; head < args.heads; ++head) {
      for (int64_t part = 0; part < 3; ++part) {
        const char* from = args.rows + (part * args.heads + head) * args.head_bytes;
        for (int64_t token = 0; token < args.tokens; ++token) {
          const int64_t id = variant * args.tokens + token;
          const int64_t row = args.packed_row != nullptr ? args.packed_row[id] : id;
          if (row < 0) {
            __builtin_memset(out, 0, static_cast<unsigned long>(args.head_bytes));
          } else {
            __builtin_memcpy(out, from + row * row_bytes, static_cast<unsigned long>(args.head_bytes));
          }
          out += args.head_bytes;
        }
      }
    }
  }
}

void layer_norm(const LayerNormRows& args, int64_t begin, int64_t end) {
  const int64_t width = args.width;
  const float per_width = 1.0F / static_cast<float>(width);
  for (int64_t r = begin; r < end; ++r) {
    const float* x = args.x + r * width;
    Floats sum = {};
    for_vectors(width, [&](int64_t i, int64_t count) { sum += load_part(x + i, count); });
    const float mean = sum_of(sum) * per_width;
    Floats square = {};
    for_vectors(width, [&](int64_t i, int64_t count) {
      const Floats apart = load_part(x + i, count) - mean;
      square += count == kWidth ? apart * apart : first_lanes(apart * apart, count);
    });
    const float sigma = __builtin_sqrtf(sum_of(square) * per_width + static_cast<float>(args.eps));
    const float inverse = inverse_of(sigma);
    for_vectors(width, [&](int64_t i, int64_t count) {
      const Floats y = (load_part(x + i, count) - mean) * inverse;
      if (args.normed != nullptr) store_part(args.normed + r * width + i, y, count);
      store_part(args.out + r * width + i,
                 y * load_part(args.weight + i, count) + load_part(args.bias + i, count), count);
    });
    if (args.deviation != nullptr) args.deviation[r] = sigma;
  }
}

void add_layer_norm(const AddLayerNorm& args, int64_t begin, int64_t end) {
  const int64_t width = args.width;
  float* scratch = LTRP_SCRATCH(width);
  const float per_width = 1.0F / static_cast<float>(width);
  for (int64_t r = begin; r < end; ++r) {
    float* x = args.x + r * width;
    Floats sum = {};
    if (args.update.values != nullptr) {
      const ProductRow update = row_of(args.update, r, width);
      for_vectors(width, [&](int64_t i, int64_t count) {
        const Floats value =
            load_part(x + i, count) + (update.part(i, count) + load_part(args.update_bias + i, count));
        store_part(x + i, value, count);
        sum += value;
      });
    } else {
      for_vectors(width, [&](int64_t i, int64_t count) { sum += load_part(x + i, count); });
    }
    const float mean = sum_of(sum) * per_width;
    Floats square = {};
    for_vectors(width, [&](int64_t i, int64_t count) {
      const Floats apart = load_part(x + i, count) - mean;
      square += count == kWidth ? apart * apart : first_lanes(apart * apart, count);
    });
    const float inverse =
        inverse_of(__builtin_sqrtf(sum_of(square) * per_width + static_cast<float>(args.eps)));
    round_row(args.out, r, width, scratch, [&](int64_t i, int64_t count) {
      return (load_part(x + i, count) - mean) * inverse * load_part(args.weight + i, count) +
             load_part(args.bias + i, count);
    });
  }
}

void gelu_rows(const GeluRows& args, int64_t begin, int64_t end) {
  const int64_t width = args.width;
  float* scratch = LTRP_SCRATCH(width);
  for (int64_t r = begin; r < end; ++r) {
    const ProductRow u = row_of(args.u, r, width);
    round_row<kGeluZero>(args.out, r, width, scratch, [&](int64_t i, int64_t count) {
      return gelu(u.part(i, count) + load_part(args.bias + i, count));
    });
  }
}

void patch_rows(const PatchRows& args, int64_t begin, int64_t end) {
  const int64_t p = args.patch_size, columns = args.width / p, width = 3 * p * p;
  float* scratch = LTRP_SCRATCH(width);
  float* values = LTRP_SCRATCH(width);
  for (int64_t r = begin; r < end; ++r) {
    const int64_t id = args.ids != nullptr ? args.ids[r] : r % args.per_image;
    const float* corner = args.images +
                          (r / args.per_image * 3 * args.height + id / columns * p) * args.width +
                          id % columns * p;
    float* to = values;
    for (int64_t channel = 0; channel < 3; ++channel, corner += args.height * args.width) {
      for (int64_t y = 0; y < p; ++y, to += p) {
        __builtin_memcpy(to, corner + y * args.width, static_cast<unsigned long>(p) * sizeof(float));
      }
    }
    round_row(args.out, r, width, scratch,
              [&](int64_t i, int64_t count) { return load_part(values + i, count); });
  }
}

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
