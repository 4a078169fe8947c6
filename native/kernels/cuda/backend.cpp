#include "kernels/cuda/backend.h"

#include <ATen/ATen.h>

#include "kernels/cuda/current_device.h"
#include "kernels/cuda/large_rows_launchers.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/operators.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/queue.h"

namespace ltrp {

namespace {

// A launcher on the current stream.
template <auto kLaunch, typename Arguments>
void queue(const Arguments& arguments, int64_t count) {
  kLaunch(arguments, count, cuda::current_stream());
}

// On the tensor cores where q, k and v, or their differences, have been rounded anyway.
void attention(const args::Attention& arguments) {
  const bool rounded =
      arguments.dqkv.values != nullptr && arguments.dqkv.encoding != args::Encoding::kFloat32;
  const auto launch = rounded && arguments.head_dim <= cuda::kWidestSplitHead ? cuda::launch_attention_split
                                                                              : cuda::launch_attention;
  launch(arguments, cuda::current_stream());
}

at::Tensor large_rows(const at::Tensor& squares, const at::Tensor& unread, double tolerance) {
  const int64_t variants = squares.size(0), slots = squares.size(1);
  const auto room = [&](int64_t count, at::ScalarType type) {
    return at::empty({count}, squares.options().dtype(type));
  };
  const at::Tensor threshold = room(variants, at::kLong), count = room(variants, at::kInt),
                   ids = room(variants * slots, at::kInt), total = room(1, at::kInt);
  args::LargeRows arguments;
  arguments.slots = slots;
  arguments.tolerance = tolerance;
  arguments.together = rows_together(slots);
  arguments.squares = squares.const_data_ptr<float>();
  if (unread.defined()) arguments.unread = unread.const_data_ptr<int32_t>();
  arguments.threshold = reinterpret_cast<uint64_t*>(threshold.mutable_data_ptr<int64_t>());
  arguments.count = count.mutable_data_ptr<int32_t>();
  arguments.ids = ids.mutable_data_ptr<int32_t>();
  arguments.total = total.mutable_data_ptr<int32_t>();
  cuda::launch_large_rows(arguments, variants, cuda::current_stream());
  // The one place where the host waits: the products' shapes depend on it.
  return ids.narrow(0, 0, total.item<int32_t>());
}

// All that fits the memory budget: the device is filled by one large product, not by many small ones.
int64_t values_at_a_time() { return int64_t{1} << 26; }

// Work is queued by one thread.
int64_t callers() { return 1; }

// Some 20 milliseconds of a data centre's GPU, a tenth of a second of a laptop's.
double flops_at_a_time() { return 1e12; }

}  // namespace

const Backend& cuda_backend() {
  static constexpr Backend backend = {
      .name = "cuda",
      .layer_norm_difference = queue<cuda::launch_layer_norm_difference>,
      .gelu_difference = queue<cuda::launch_gelu_difference>,
      .round_rows = queue<cuda::launch_round_rows>,
      .add_rows = queue<cuda::launch_add_rows>,
      .row_sums = queue<cuda::launch_row_sums>,
      .split_heads = queue<cuda::launch_split_heads>,
      .layer_norm = queue<cuda::launch_layer_norm_rows>,
      .add_layer_norm = queue<cuda::launch_add_layer_norm>,
      .gelu = queue<cuda::launch_gelu_rows>,
      .patches = queue<cuda::launch_patch_rows>,
      .attention = attention,
      .removal_attention = queue<cuda::launch_removal_attention>,
      .large_rows = large_rows,
      .normalize_pixels = cuda::normalize_pixels,
      .byte_patch_rows = cuda::byte_patch_rows,
      .decoder_input = cuda::decoder_input,
      .decoder_input_without = cuda::decoder_input_without,
      .starting_difference = cuda::starting_difference,
      .delete_rows = cuda::delete_rows,
      .masked_tokens = cuda::masked_tokens,
      .density_peaks = cuda::density_peaks,
      .list_loss = cuda::list_loss,
      .has_fast_products = cuda::has_fast_products,
      .encoding = cuda::encoding,
      .pack = cuda::pack,
      .multiply = cuda::multiply,
      .values_at_a_time = values_at_a_time,
      .callers = callers,
      .flops_at_a_time = flops_at_a_time,
      .asynchronous = true,
      .open_queue = cuda::open_queue,
      .free_memory = cuda::free_memory,
  };
  return backend;
}

}  // namespace ltrp
