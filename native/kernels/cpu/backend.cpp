#include "kernels/cpu/backend.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "kernels/cpu/products.h"
#include "kernels/cpu/queue.h"
#include "kernels/cpu/scratch.h"
#include "kernels/cpu/simd_dispatch.h"
#include "kernels/forward.h"
#include "kernels/interrupt.h"
#include "kernels/parallel.h"

namespace ltrp {

namespace {

using simd::KernelTable;

template <typename Arguments>
int64_t width_of(const Arguments& arguments) {
  return arguments.width;
}
int64_t width_of(const args::PatchRows& arguments) { return 3 * arguments.patch_size * arguments.patch_size; }

// Calls one of the row kernels for ranges of rows from several threads: some ten thousand values are worth
// one, and few enough are done between two looks at the Interrupt.
template <auto kKernel, typename Arguments>
void rows(const Arguments& arguments, int64_t count) {
  const auto kernel = simd::kernels().*kKernel;
  const int64_t grain = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width_of(arguments)));
  const int64_t piece = 64 * grain;
  const Interrupt interrupt = Interrupt::current();
  at::parallel_for(0, count, grain, [&](int64_t begin, int64_t end) {
    for (; begin < end; begin += piece) {
      interrupt.check();
      kernel(arguments, begin, std::min(end, begin + piece));
    }
  });
}

void split_heads(const args::SplitHeads& arguments, int64_t variants) {
  const Interrupt interrupt = Interrupt::current();
  at::parallel_for(0, variants, 1, [&](int64_t begin, int64_t end) {
    for (; begin < end; ++begin) {
      interrupt.check();
      simd::kernels().split_heads(arguments, begin, begin + 1);
    }
  });
}

// Calls a kernel that needs a workspace for `at_a_time` of `count` things at a time.
template <typename Kernel, typename Arguments>
void for_pieces(int64_t count, int64_t at_a_time, int64_t workspace, Kernel kernel,
                const Arguments& arguments) {
  const Interrupt interrupt = Interrupt::current();
  const simd::Stop stop{[](const void* of) { return static_cast<const Interrupt*>(of)->asked(); },
                        &interrupt};
  for_tasks((count + at_a_time - 1) / at_a_time, [&] { return cpu::scratch(workspace); },
            [&](int64_t task, float* memory) {
              kernel(arguments, task * at_a_time, std::min(count, (task + 1) * at_a_time), memory, stop);
              interrupt.check();
            });
}

// Heads a few at a time: one is long enough for a task, neighbours share what they read, and each thread
// needs its own workspace.
template <typename Kernel, typename Arguments>
void for_heads(int64_t heads, Kernel kernel, const Arguments& arguments) {
  for_pieces(heads, std::clamp<int64_t>(heads / (4 * at::get_num_threads()), 1, 16),
             simd::kernels().attention_workspace(arguments.set, arguments.head_dim), kernel, arguments);
}

void attention(const args::Attention& arguments) {
  for_heads(arguments.set.variants * arguments.heads, simd::kernels().attention, arguments);
}

void removal_attention(const args::RemovalAttention& arguments, int64_t images) {
  for_heads(images * arguments.heads, simd::kernels().removal_attention, arguments);
}

void similarity(const args::Similarity& arguments, int64_t variants) {
  for_pieces(variants, 1, simd::kernels().similarity_workspace(arguments), simd::kernels().similarity,
             arguments);
}

at::Tensor large_rows(const at::Tensor& squares, const at::Tensor& unread, double tolerance) {
  const auto slots = static_cast<size_t>(squares.size(1));
  const auto together = static_cast<size_t>(rows_together(squares.size(1)));
  auto* value = squares.mutable_data_ptr<float>();
  std::vector<std::pair<float, int32_t>> ascending(slots);
  std::vector<char> left_out(slots);
  std::vector<int32_t> kept;
  const Interrupt interrupt = Interrupt::current();
  for (int64_t variant = 0; variant < squares.size(0); ++variant, value += slots) {
    interrupt.check();
    if (unread.defined()) value[unread.const_data_ptr<int32_t>()[variant]] = 0;
    const double sum = std::accumulate(value, value + slots, 0.0);
    size_t first = 0;
    // Values beyond float32 have no order to sort by: all rows are kept.
    if (std::isfinite(sum)) {
      for (size_t i = 0; i < slots; ++i) ascending[i] = {value[i], static_cast<int32_t>(i)};
      std::sort(ascending.begin(), ascending.end());
      double allowed = tolerance * sum;
      while (first + 1 < slots && ascending[first].first <= allowed) allowed -= ascending[first++].first;
      const size_t more = (together - (slots - first) % together) % together;
      first -= std::min(first, more);
    }
    std::fill(left_out.begin(), left_out.end(), 0);
    for (size_t i = 0; i < first; ++i) left_out[static_cast<size_t>(ascending[i].second)] = 1;
    for (size_t i = 0; i < slots; ++i) {
      if (!left_out[i]) kept.push_back(static_cast<int32_t>(static_cast<size_t>(variant) * slots + i));
    }
  }
  const at::Tensor ids = at::empty({static_cast<int64_t>(kept.size())}, at::kInt);
  std::copy(kept.begin(), kept.end(), ids.mutable_data_ptr<int32_t>());
  return ids;
}

at::Tensor normalize_pixels(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std) {
  const at::Tensor source = bytes.contiguous();
  const int64_t images = source.size(0), height = source.size(1), width = source.size(2);
  at::Tensor result = at::empty({images, 3, height, width}, at::kFloat);
  // One multiply-add a value; a table of 256 entries a channel makes it a look-up with the division done
  // once.
  std::array<std::array<float, 256>, 3> table;
  for (size_t c = 0; c < 3; ++c) {
    for (size_t v = 0; v < 256; ++v) {
      table[c][v] = static_cast<float>((static_cast<float>(v) / 255.0F - static_cast<float>(mean[c])) /
                                       static_cast<float>(std[c]));
    }
  }
  const uint8_t* in = source.const_data_ptr<uint8_t>();
  float* out = result.mutable_data_ptr<float>();
  const int64_t plane = height * width;
  const Interrupt interrupt = Interrupt::current();
  at::parallel_for(0, images * height, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      interrupt.check();
      const int64_t image = row / height, y = row % height;
      const uint8_t* pixel = in + row * width * 3;
      float* red = out + image * 3 * plane + y * width;
      for (int64_t x = 0; x < width; ++x, pixel += 3) {
        red[x] = table[0][pixel[0]];
        red[x + plane] = table[1][pixel[1]];
        red[x + 2 * plane] = table[2][pixel[2]];
      }
    }
  });
  return result;
}

RoundedRows byte_patch_rows(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std,
                            int64_t patch_size, const at::Tensor& ids, Precision precision) {
  return patch_rows(normalize_pixels(bytes, mean, std), patch_size, ids, precision);
}

// Enough rows for full speed, few enough that what passes from one product to the next stays in a core's own
// cache.
int64_t values_at_a_time() { return int64_t{1} << 17; }

int64_t callers() { return at::get_num_threads(); }

// A few tens of milliseconds on two cores.
double flops_at_a_time() { return 4e9; }

int64_t free_memory() { return std::numeric_limits<int64_t>::max(); }

}  // namespace

const Backend& cpu_backend() {
  static constexpr Backend backend = {
      .name = "cpu",
      .layer_norm_difference = rows<&KernelTable::layer_norm_difference>,
      .gelu_difference = rows<&KernelTable::gelu_difference>,
      .round_rows = rows<&KernelTable::round_rows>,
      .add_rows = rows<&KernelTable::add_rows>,
      .row_sums = rows<&KernelTable::row_sums>,
      .split_heads = split_heads,
      .layer_norm = rows<&KernelTable::layer_norm>,
      .add_layer_norm = rows<&KernelTable::add_layer_norm>,
      .gelu = rows<&KernelTable::gelu>,
      .patches = rows<&KernelTable::patches>,
      .attention = attention,
      .removal_attention = removal_attention,
      .similarity = similarity,
      .large_rows = large_rows,
      .normalize_pixels = normalize_pixels,
      .byte_patch_rows = byte_patch_rows,
      .special = nullptr,
      .has_fast_products = cpu::has_fast_products,
      .encoding = cpu::encoding,
      .pack = cpu::pack,
      .multiply = cpu::multiply,
      .values_at_a_time = values_at_a_time,
      .callers = callers,
      .flops_at_a_time = flops_at_a_time,
      .asynchronous = false,
      .open_queue = cpu::open_queue,
      .free_memory = free_memory,
  };
  return backend;
}

}  // namespace ltrp
