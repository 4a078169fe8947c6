#include "kernels/cuda/backend.h"

#include "kernels/cpu/backend.h"
#include "kernels/cuda/current_device.h"
#include "kernels/cuda/launchers.h"
#include "kernels/cuda/products.h"
#include "kernels/cuda/queue.h"
#include "kernels/tensor_arguments.h"

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
  // More rows than the kernel can sort are sorted on the host, which has to wait for the ids in any case.
  if (slots > args::kMostSorted) {
    return cpu_backend()
        .large_rows(squares.cpu(), unread.defined() ? unread.cpu() : unread, tolerance)
        .to(squares.device());
  }
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

template <typename Arguments>
void set_statistics(Arguments& arguments, at::ArrayRef<double> mean, at::ArrayRef<double> std) {
  for (size_t c = 0; c < 3; ++c) {
    arguments.mean[c] = static_cast<float>(mean[c]);
    arguments.std[c] = static_cast<float>(std[c]);
  }
}

at::Tensor normalize_pixels(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std) {
  const at::Tensor source = bytes.contiguous();
  args::NormalizePixels arguments;
  arguments.images = source.size(0);
  arguments.height = source.size(1);
  arguments.width = source.size(2);
  at::Tensor result =
      at::empty({arguments.images, 3, arguments.height, arguments.width}, source.options().dtype(at::kFloat));
  arguments.bytes = source.const_data_ptr<uint8_t>();
  set_statistics(arguments, mean, std);
  arguments.out = result.mutable_data_ptr<float>();
  cuda::launch_normalize_pixels(arguments, cuda::current_stream());
  return result;
}

RoundedRows byte_patch_rows(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std,
                            int64_t patch_size, const at::Tensor& ids, Precision precision) {
  TORCH_CHECK(bytes.is_contiguous(), "contiguous bytes are expected");
  args::PixelPatches arguments;
  arguments.patch_size = patch_size;
  arguments.height = bytes.size(1);
  arguments.width = bytes.size(2);
  arguments.per_image = (arguments.height / patch_size) * (arguments.width / patch_size);
  if (ids.defined()) {
    arguments.per_image = ids.size(1);
    arguments.ids = longs(ids);
  }
  arguments.bytes = bytes.const_data_ptr<uint8_t>();
  set_statistics(arguments, mean, std);
  const int64_t rows = bytes.size(0) * arguments.per_image;
  RoundedRows result = rounded_rows(bytes, rows, 3 * patch_size * patch_size, precision, arguments.out);
  cuda::launch_pixel_patches(arguments, rows, cuda::current_stream());
  return result;
}

// All that fits the memory budget: the device is filled by one large product, not by many small ones.
int64_t values_at_a_time() { return int64_t{1} << 26; }

// Work is queued by one thread.
int64_t callers() { return 1; }

// Some 20 milliseconds of a data centre's GPU, a tenth of a second of a laptop's.
double flops_at_a_time() { return 1e12; }

constexpr SpecialKernels kSpecial = {
    .decoder_input = queue<cuda::launch_decoder_input>,
    .starting_difference = queue<cuda::launch_starting_difference>,
    .delete_row = queue<cuda::launch_delete_row>,
    .masked_tokens = queue<cuda::launch_masked_tokens>,
    .density_peaks = queue<cuda::launch_density_peaks>,
    .list_loss = queue<cuda::launch_listwise_loss>,
};

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
      .similarity = nullptr,
      .large_rows = large_rows,
      .normalize_pixels = normalize_pixels,
      .byte_patch_rows = byte_patch_rows,
      .special = &kSpecial,
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
