// Learning-to-rank losses (docs/method.md, 4) and their gradients in the predictions s, for targets y. N
// lists of n items; the gradient comes with the loss, because it is made of the same sums.
//
//   pointWise   mean (s - y)^2                               g = 2 (s - y) / (N n)
//   listNet     -mean softmax(y) log softmax(s)              g = (softmax(s) - softmax(y)) / (N n)
//   listMle     items in falling order of y, tail_j = log sum_{l >= j} exp s_l:
//               sum_j (tail_j - s_j) / N                     g_i = (sum_{j <= i} exp(s_i - tail_j) - 1) / N
//   rankNet     mean over pairs (i, j) of BCE(sigmoid(s_i - s_j), y_i > y_j) / 2, targets closer than 0.001
//               count as equal (label 1/2)                   g_i = sum_j (sigmoid(d_ij) - label_ij) - ...
//   focusedRank listMle of the k items with the largest y + rankNet of those k against all others
//
// listMle with noise is over the k items with the smallest noise. The tails are a scan over pairs (top, sum)
// that stand for log(sum) + top: whatever the spread of s, nothing overflows and no item drowns beside one
// that is not in its tail. The gradient is a second scan, over -tail, the other way. The list's largest s is
// subtracted first: predictions around 800 lose no digits to their common part.
//
// Ties of y: the lower index is first (with noise: the smaller noise), as a stable sort leaves them. A NaN
// among the predictions or targets makes the list's loss NaN where the formula does.
//
// Bytes: 8 n a list are read, 4 n + 8 written. Work: sort n log2(n)^2 / 4 exchanges, scans 12 n
// exponentials; rankNet n^2 pairs of 2 transcendental functions, k n of them for focusedRank. At n = 49 and
// 64 lists: 25 KB and microseconds; it is here so that a training step never waits for a list to be sorted
// on the host.
//
// Launch: one block a list of as many threads as items, at least 32 and at most 256, 8 bytes of shared
// memory an item; then one block that adds up the lists in order. Terms are float32, their sums float64.
#include <stdexcept>

#include "kernels/cuda/block_scan.cuh"
#include "kernels/cuda/block_sort.cuh"
#include "kernels/cuda/launchers.h"

namespace ltrp::cuda {
namespace {

using args::ListLoss;
using args::ListwiseLoss;

constexpr unsigned kThreads = 256;
constexpr float kTieThreshold = 0.001F;

// log(sum) + top.
struct LogSum {
  float top;
  float sum;
};

__device__ __forceinline__ LogSum shifted_up(LogSum x, unsigned lanes) {
  return {__shfl_up_sync(kAllLanes, x.top, lanes), __shfl_up_sync(kAllLanes, x.sum, lanes)};
}

struct AddLogs {
  __device__ __forceinline__ LogSum operator()(LogSum a, LogSum b) const {
    if (a.sum == 0) return b;
    if (b.sum == 0) return a;
    if (a.top == b.top) return {a.top, a.sum + b.sum};  // infinite tops too
    return a.top > b.top ? LogSum{a.top, a.sum + b.sum * expf(b.top - a.top)}
                         : LogSum{b.top, b.sum + a.sum * expf(a.top - b.top)};
  }
};
constexpr LogSum kNothing = {0, 0};

// A list as one block sees it.
struct List {
  const float* predicted;
  const float* target;
  const float* noise;  // may be null
  float* gradient;     // may be null
  int items;
  int padded;  // room in shared memory: a power of two

  __device__ __forceinline__ int first() const { return static_cast<int>(threadIdx.x); }
  __device__ __forceinline__ int step() const { return static_cast<int>(blockDim.x); }
};

struct Partials {
  Shared<double, 32>& doubles;
  Shared<float, 32>& floats;
  Shared<LogSum, 32>& logs;
};

__device__ double point_wise(const List& list, float weight) {
  double loss = 0;
  for (int i = list.first(); i < list.items; i += list.step()) {
    const float apart = list.predicted[i] - list.target[i];
    loss += static_cast<double>(apart) * static_cast<double>(apart);
    if (list.gradient != nullptr) list.gradient[i] = 2 * apart * weight;
  }
  return loss;
}

__device__ double list_net(const List& list, float weight, Partials& partials) {
  float top_s = -INFINITY, top_y = -INFINITY;
  for (int i = list.first(); i < list.items; i += list.step()) {
    top_s = fmaxf(top_s, list.predicted[i]);
    top_y = fmaxf(top_y, list.target[i]);
  }
  top_s = block_reduce(top_s, Larger(), partials.floats);
  top_y = block_reduce(top_y, Larger(), partials.floats);
  double sum_s = 0, sum_y = 0;
  for (int i = list.first(); i < list.items; i += list.step()) {
    sum_s += static_cast<double>(expf(list.predicted[i] - top_s));
    sum_y += static_cast<double>(expf(list.target[i] - top_y));
  }
  sum_s = block_reduce(sum_s, Add(), partials.doubles);
  sum_y = block_reduce(sum_y, Add(), partials.doubles);
  const float of_s = static_cast<float>(1 / sum_s), of_y = static_cast<float>(1 / sum_y);
  const float log_sum = logf(static_cast<float>(sum_s));
  double loss = 0;
  for (int i = list.first(); i < list.items; i += list.step()) {
    const float s = list.predicted[i] - top_s;
    const float p = expf(list.target[i] - top_y) * of_y;
    loss += static_cast<double>(p * (log_sum - s));
    if (list.gradient != nullptr) list.gradient[i] = (expf(s) * of_s - p) * weight;
  }
  return loss;
}

// Keys of the items in falling order of y; the lower half of a key: place before sorting << 16 | item. Only
// the k items of the smallest noise where there is noise: the others lie behind as kLastKey.
template <typename Keys>
__device__ void sort_items(const List& list, Keys& keys, int k) {
  if (list.noise != nullptr) {
    for (int i = list.first(); i < list.padded; i += list.step()) {
      keys.store(i, i < list.items ? rising_key(list.noise[i], static_cast<uint32_t>(i)) : kLastKey);
    }
    __syncthreads();
    block_sort(keys, list.padded);
  }
  for (int place = list.first(); place < list.padded; place += list.step()) {
    uint64_t key = kLastKey;
    if (place < (list.noise != nullptr ? k : list.items)) {
      const uint32_t item =
          list.noise != nullptr ? lower_half(keys.load(place)) : static_cast<uint32_t>(place);
      key = falling_key(list.target[item], static_cast<uint32_t>(place) << 16 | item);
    }
    keys.store(place, key);
  }
  __syncthreads();
  block_sort(keys, list.padded);
}

__device__ __forceinline__ int item_of(uint64_t key) { return static_cast<int>(lower_half(key) & 0xffffU); }

// Of the first k sorted items. Overwrites their keys: tail in the upper half. Adds to the gradient.
template <typename Keys>
__device__ double list_mle(const List& list, Keys& keys, int k, float weight, Partials& partials) {
  float top = -INFINITY;
  for (int place = list.first(); place < k; place += list.step()) {
    top = fmaxf(top, list.predicted[item_of(keys.load(place))]);
  }
  top = block_reduce(top, Larger(), partials.floats);
  const auto score = [&](uint64_t key) { return list.predicted[item_of(key)] - top; };

  // Every thread has `each` neighbouring places; the tails count from the far end.
  const int each = list.padded / list.step();
  const int begin = list.first() * each, end = begin + each;
  LogSum chunk = kNothing;
  for (int place = begin; place < end; ++place) {
    const int behind = list.padded - 1 - place;
    if (behind < k) chunk = AddLogs()(chunk, LogSum{score(keys.load(behind)), 1});
  }
  LogSum tail = block_scan(chunk, kNothing, AddLogs(), partials.logs).before;
  double loss = 0;
  for (int place = begin; place < end; ++place) {
    const int behind = list.padded - 1 - place;
    if (behind >= k) continue;
    const uint64_t key = keys.load(behind);
    const float s = score(key);
    tail = AddLogs()(tail, LogSum{s, 1});
    const float log_sum = logf(tail.sum);
    loss += static_cast<double>((tail.top - s) + log_sum);
    keys.store(behind, (static_cast<uint64_t>(__float_as_uint(tail.top + log_sum)) << 32) | lower_half(key));
  }
  if (list.gradient == nullptr) return loss;
  __syncthreads();

  const auto negative_tail = [](uint64_t key) { return LogSum{-__uint_as_float(upper_half(key)), 1}; };
  chunk = kNothing;
  for (int place = begin; place < end && place < k; ++place) {
    chunk = AddLogs()(chunk, negative_tail(keys.load(place)));
  }
  LogSum before = block_scan(chunk, kNothing, AddLogs(), partials.logs).before;
  for (int place = begin; place < end && place < k; ++place) {
    const uint64_t key = keys.load(place);
    before = AddLogs()(before, negative_tail(key));
    list.gradient[item_of(key)] += (expf(score(key) + before.top) * before.sum - 1) * weight;
  }
  return loss;
}

// What the pairs of each row item and each column item add; an item may be both. The items' s and y lie in
// shared memory, in the order of the list. Adds to the gradient.
template <typename Keys, typename Role>
__device__ double pairwise(const List& list, Keys& pairs, Role role, float weight) {
  double loss = 0;
  for (int i = list.first(); i < list.items; i += list.step()) {
    const uint64_t own = pairs.load(i);
    const float s = __uint_as_float(lower_half(own)), y = __uint_as_float(upper_half(own));
    const bool row = role.row(y, i), column = role.column(y, i);
    double gradient = 0;
    for (int j = 0; j < list.items; ++j) {
      const uint64_t other = pairs.load(j);
      const float other_y = __uint_as_float(upper_half(other));
      const bool with_column = row && role.column(other_y, j), with_row = column && role.row(other_y, j);
      if (!with_column && !with_row) continue;
      const float d = s - __uint_as_float(lower_half(other)), order = y - other_y;
      const float small = expf(-fabsf(d)), whole = 1 / (1 + small);
      // sigmoid(d) and sigmoid(-d), neither as a difference from 1
      const float above = d >= 0 ? whole : small * whole, below = d >= 0 ? small * whole : whole;
      const bool tie = fabsf(order) < kTieThreshold;
      if (with_column) {
        const float label = tie ? 0.5F : order > 0 ? 1.0F : 0.0F;
        loss += static_cast<double>((1 - label) * d - fminf(d, 0) + log1pf(small));
        gradient += static_cast<double>((1 - label) * above - label * below);
      }
      if (with_row) {
        // The pair (j, i): its difference is -d, and so is what it does to this item.
        const float label = tie ? 0.5F : order < 0 ? 1.0F : 0.0F;
        gradient -= static_cast<double>((1 - label) * below - label * above);
      }
    }
    if (list.gradient != nullptr) list.gradient[i] += static_cast<float>(gradient) * weight;
  }
  return loss;
}

struct EveryPair {
  __device__ __forceinline__ bool row(float, int) const { return true; }
  __device__ __forceinline__ bool column(float, int) const { return true; }
};

// Rows are the items before `boundary` in falling order of y, columns the others.
struct AcrossBoundary {
  uint64_t boundary;
  __device__ __forceinline__ bool row(float y, int item) const {
    const auto place = static_cast<uint32_t>(item);
    return falling_key(y, place << 16 | place) < boundary;
  }
  __device__ __forceinline__ bool column(float y, int item) const { return !row(y, item); }
};

template <typename Keys>
__device__ __forceinline__ void load_pairs(const List& list, Keys& pairs) {
  for (int i = list.first(); i < list.items; i += list.step()) {
    pairs.store(i, (static_cast<uint64_t>(__float_as_uint(list.target[i])) << 32) |
                       __float_as_uint(list.predicted[i]));
  }
  __syncthreads();
}

__global__ __launch_bounds__(kThreads) void list_losses(ListwiseLoss a, int padded) {
  DynamicShared<uint64_t> keys(0, padded);
  __shared__ Shared<double, 32> doubles;
  __shared__ Shared<float, 32> floats;
  __shared__ Shared<LogSum, 32> logs;
  Partials partials{doubles, floats, logs};
  const int64_t start = static_cast<int64_t>(blockIdx.x) * a.items;
  const List list{a.predicted + start,
                  a.target + start,
                  a.noise != nullptr && a.loss == ListLoss::kListMle ? a.noise + start : nullptr,
                  a.gradient != nullptr ? a.gradient + start : nullptr,
                  static_cast<int>(a.items),
                  padded};
  const double per_list = 1.0 / static_cast<double>(gridDim.x);
  const double items = static_cast<double>(list.items), k = static_cast<double>(a.k);

  // The losses that add to the gradient start from zero.
  if (list.gradient != nullptr && a.loss != ListLoss::kPointWise && a.loss != ListLoss::kListNet) {
    for (int i = list.first(); i < list.items; i += list.step()) list.gradient[i] = 0;
    __syncthreads();
  }
  double loss = 0;  // of this thread, weighted
  switch (a.loss) {
    case ListLoss::kPointWise:
      loss = point_wise(list, static_cast<float>(per_list / items)) * (per_list / items);
      break;
    case ListLoss::kListNet:
      loss = list_net(list, static_cast<float>(per_list / items), partials) * (per_list / items);
      break;
    case ListLoss::kListMle: {
      const int drawn = static_cast<int>(a.k);
      sort_items(list, keys, drawn);
      loss = list_mle(list, keys, drawn, static_cast<float>(per_list), partials) * per_list;
      break;
    }
    case ListLoss::kRankNet: {
      load_pairs(list, keys);
      const double share = 0.5 * per_list / (items * items);
      loss = pairwise(list, keys, EveryPair(), static_cast<float>(share)) * share;
      break;
    }
    case ListLoss::kFocusedRank: {
      const int focus = static_cast<int>(a.k);
      sort_items(list, keys, focus);
      const uint64_t boundary = focus < list.items ? keys.load(focus) : kLastKey;
      loss = list_mle(list, keys, focus, static_cast<float>(per_list), partials) * per_list;
      if (focus == list.items) break;
      __syncthreads();
      load_pairs(list, keys);
      const double share = 0.5 * per_list / (k * (items - k));
      loss += pairwise(list, keys, AcrossBoundary{boundary}, static_cast<float>(share)) * share;
      break;
    }
  }
  loss = block_reduce(loss, Add(), doubles);
  if (threadIdx.x == 0) a.list_loss[blockIdx.x] = loss;
}

// Grid: one block of 256 threads.
__global__ __launch_bounds__(kThreads) void add_lists(ListwiseLoss a, int64_t lists) {
  __shared__ Shared<double, 32> partial;
  double own = 0;
  for (int64_t list = threadIdx.x; list < lists; list += blockDim.x) own += a.list_loss[list];
  const double sum = block_reduce(own, Add(), partial);
  if (threadIdx.x == 0) *a.value = static_cast<float>(sum);
}

}  // namespace

void launch_listwise_loss(const args::ListwiseLoss& arguments, int64_t lists, Stream stream) {
  ListwiseLoss a = arguments;
  if (lists < 1 || lists > INT32_MAX || a.items < 1 || a.items > args::kMostSorted) {
    throw std::invalid_argument("a ranking loss needs lists of 1 to 4096 items");
  }
  if (a.loss == ListLoss::kFocusedRank && (a.k < 1 || a.k > a.items)) {
    throw std::invalid_argument("the focus of a ranking loss has 1 item or more, and no more than the list");
  }
  if (a.loss == ListLoss::kListMle) {
    if (a.k < 0) throw std::invalid_argument("a ranking loss cannot draw a negative number of items");
    if (a.noise == nullptr && a.k != 0 && a.k < a.items) {
      throw std::invalid_argument("drawing items of a list needs noise");
    }
    if (a.k == 0 || a.k > a.items) a.k = a.items;
  }
  const int padded = padded_to_power(a.items, 32);
  const unsigned threads = padded < static_cast<int>(kThreads) ? padded : kThreads;
  launch(list_losses, dim3(static_cast<unsigned>(lists)), dim3(threads),
         padded * static_cast<int64_t>(sizeof(uint64_t)), stream, a, padded);
  launch(add_lists, dim3(1), dim3(kThreads), 0, stream, a, lists);
}

}  // namespace ltrp::cuda
