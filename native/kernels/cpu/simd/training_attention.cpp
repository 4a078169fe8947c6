// Attention of one head, forward and backward: its matrices lie in the second-level cache, the logits for
// some queries at a time. The probabilities are computed anew for the backward pass.
#include "kernels/cpu/simd/training.h"
#include "kernels/cpu/simd/vector.h"

namespace ltrp::simd::LTRP_SIMD_LEVEL {
namespace {

constexpr int64_t kQueries = 112;  // at a time, at most; whole tiles of a product
constexpr float kLowest = -3e38F;

inline int64_t in_panels(int64_t count) {
  constexpr int64_t panel = kTrainingPanel;
  return (count + panel - 1) / panel * panel;
}

// One head's workspace.
struct Workspace {
  int64_t keys;  // a row of logits
  float *k_columns, *v_columns, *k_rows, *v_rows, *q_rows, *d_o_rows, *logits, *d_logits;
  int64_t size = 0;

  // Without memory: for the size alone.
  Workspace(int64_t key_count, int64_t head_dim, float* memory) : keys(in_panels(key_count)) {
    const int64_t columns = in_panels(head_dim);
    const auto take = [&](int64_t count) {
      float* taken = memory != nullptr ? memory + size : nullptr;
      size += (count + 15) / 16 * 16;
      return taken;
    };
    k_columns = take(head_dim * keys);
    v_columns = take(head_dim * keys);
    k_rows = take(key_count * columns);
    v_rows = take(key_count * columns);
    q_rows = take(kQueries * columns);
    d_o_rows = take(kQueries * columns);
    logits = take(kQueries * keys);
    d_logits = take(kQueries * keys);
  }
};

inline void pack(const float* b, int64_t b_row, int64_t inputs, int64_t outputs, bool transposed,
                 float* panels) {
  Panels args;
  args.inputs = inputs;
  args.outputs = outputs;
  args.b = b;
  args.b_row = b_row;
  args.transposed = transposed;
  args.panels = panels;
  pack_panels(args);
}

struct Shape {
  int64_t rows, inputs, outputs;
};

inline void multiply(Shape shape, const float* a, int64_t a_row, bool transposed, const float* panels,
                     float* c, int64_t c_row, bool accumulate = false) {
  PanelProduct args;
  args.rows = shape.rows;
  args.inputs = shape.inputs;
  args.outputs = shape.outputs;
  args.a = a;
  args.a_row = a_row;
  args.transposed = transposed;
  args.b = panels;
  args.c = c;
  args.c_row = c_row;
  args.accumulate = accumulate;
  panel_product(args);
}

// Of a row of logits: exp(scale (logit - most)), zeros behind the last key. Scaled last, so that the largest
// one yields one, however large it is.
inline Floats exponentials(const float* p, int64_t key, int64_t keys, float scale, float most) {
  Floats e = exponential((load(p + key) - most) * scale);
  if (key + kWidth > keys) {
    for (int64_t lane = key < keys ? keys - key : 0; lane < kWidth; ++lane) e[lane] = 0;
  }
  return e;
}

inline int64_t blocks_of(int64_t queries) { return (queries + kQueries - 1) / kQueries; }

}  // namespace

int64_t head_workspace(int64_t keys, int64_t head_dim) { return Workspace(keys, head_dim, nullptr).size; }

void head_forward(const HeadForward& args) {
  const Workspace w(args.keys, args.head_dim, args.workspace);
  const float scale = 1.0F / __builtin_sqrtf(static_cast<float>(args.head_dim));
  pack(args.k, args.kv_row, args.head_dim, args.keys, true, w.k_columns);
  pack(args.v, args.kv_row, args.keys, args.head_dim, false, w.v_rows);
  const int64_t blocks = blocks_of(args.queries);
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = args.queries * block / blocks, count = args.queries * (block + 1) / blocks - first;
    multiply({count, args.head_dim, w.keys}, args.q + first * args.q_row, args.q_row, false, w.k_columns,
             w.logits, w.keys);
    for (int64_t r = 0; r < count; ++r) {
      float* p = w.logits + r * w.keys;
      Floats top = fill(kLowest);
      int64_t key = 0;
      for (; key + kWidth <= args.keys; key += kWidth) top = larger(top, load(p + key));
      float most = largest_of(top);
      for (; key < args.keys; ++key) most = p[key] > most ? p[key] : most;
      Floats sum = {};
      for (key = 0; key < w.keys; key += kWidth) {
        const Floats e = exponentials(p, key, args.keys, scale, most);
        store(p + key, e);
        sum += e;
      }
      args.most[first + r] = most;
      args.share[first + r] = 1.0F / sum_of(sum);
    }
    float* o = args.o + first * args.o_row;
    multiply({count, args.keys, args.head_dim}, w.logits, w.keys, false, w.v_rows, o, args.o_row);
    for (int64_t r = 0; r < count; ++r, o += args.o_row) {
      const float share = args.share[first + r];
      for (int64_t i = 0; i < args.head_dim; i += kWidth) {
        const int64_t some = args.head_dim - i < kWidth ? args.head_dim - i : static_cast<int64_t>(kWidth);
        store_part(o + i, load_part(o + i, some) * share, some);
      }
    }
  }
}

void head_backward(const HeadBackward& args) {
  const HeadForward& f = args.forward;
  const Workspace w(f.keys, f.head_dim, f.workspace);
  const float scale = 1.0F / __builtin_sqrtf(static_cast<float>(f.head_dim));
  pack(f.k, f.kv_row, f.head_dim, f.keys, true, w.k_columns);
  pack(f.v, f.kv_row, f.head_dim, f.keys, true, w.v_columns);
  pack(f.k, f.kv_row, f.keys, f.head_dim, false, w.k_rows);
  const int64_t blocks = blocks_of(f.queries);
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t first = f.queries * block / blocks, count = f.queries * (block + 1) / blocks - first;
    const float *q = f.q + first * f.q_row, *d_o = args.d_o + first * f.o_row;
    multiply({count, f.head_dim, w.keys}, q, f.q_row, false, w.k_columns, w.logits, w.keys);
    multiply({count, f.head_dim, w.keys}, d_o, f.o_row, false, w.v_columns, w.d_logits, w.keys);
    for (int64_t r = 0; r < count; ++r) {
      float *p = w.logits + r * w.keys, *d = w.d_logits + r * w.keys;
      const float most = f.most[first + r], share = f.share[first + r];
      Floats cross = {};
      for (int64_t key = 0; key < w.keys; key += kWidth) {
        const Floats e = exponentials(p, key, f.keys, scale, most) * share;
        store(p + key, e);
        cross += e * load(d + key);
      }
      const float mean = sum_of(cross);
      for (int64_t key = 0; key < w.keys; key += kWidth)
        store(d + key, load(p + key) * (load(d + key) - mean) * scale);
    }
    pack(d_o, f.o_row, count, f.head_dim, false, w.d_o_rows);
    pack(q, f.q_row, count, f.head_dim, false, w.q_rows);
    multiply({f.keys, count, f.head_dim}, w.logits, w.keys, true, w.d_o_rows, args.dv, f.kv_row, block > 0);
    multiply({f.keys, count, f.head_dim}, w.d_logits, w.keys, true, w.q_rows, args.dk, f.kv_row, block > 0);
    multiply({count, f.keys, f.head_dim}, w.d_logits, w.keys, false, w.k_rows, args.dq + first * f.q_row,
             f.q_row);
  }
}

}  // namespace ltrp::simd::LTRP_SIMD_LEVEL
