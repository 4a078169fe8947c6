#include "kernels/cuda/operators.h"

#include <ATen/ATen.h>

#include "kernels/cpu/operators.h"
#include "kernels/cuda/clustering_launchers.h"
#include "kernels/cuda/current_device.h"
#include "kernels/cuda/listwise_loss_launchers.h"
#include "kernels/cuda/pixels_launchers.h"
#include "kernels/cuda/variants_launchers.h"
#include "kernels/tensor_arguments.h"

namespace ltrp::cuda {

namespace {

// Distances of that many images are in memory at a time.
constexpr int64_t kDistances = int64_t{1} << 26;

// Kernels of many variants count them in one dimension of a grid.
constexpr int64_t kMostOfGrid = 65535;

at::Tensor int32(const at::Tensor& x) { return x.to(at::kInt).contiguous(); }

const int64_t* longs(const at::Tensor& x) {
  TORCH_CHECK(x.is_contiguous() && x.scalar_type() == at::kLong, "contiguous int64 ids are expected");
  return x.const_data_ptr<int64_t>();
}

bool plain(const at::Tensor& x) { return x.scalar_type() == at::kFloat && !x.requires_grad(); }
bool plain(const DecoderTokens& tokens) {
  return plain(tokens.mask_token) && plain(tokens.positions) && tokens.positions.is_contiguous() &&
         tokens.mask_token.is_contiguous();
}

template <typename Arguments>
void set_statistics(Arguments& arguments, at::ArrayRef<double> mean, at::ArrayRef<double> std) {
  for (size_t c = 0; c < 3; ++c) {
    arguments.mean[c] = static_cast<float>(mean[c]);
    arguments.std[c] = static_cast<float>(std[c]);
  }
}

args::DecoderInput input_arguments(const DecoderTokens& tokens, const at::Tensor& visible,
                                   const at::Tensor& embedded) {
  args::DecoderInput arguments;
  arguments.patches = tokens.positions.size(1) - 1;
  arguments.visible_per_image = visible.size(1);
  arguments.width = embedded.size(2);
  arguments.visible = longs(visible);
  arguments.embedded = {floats(embedded), args::Encoding::kFloat32, nullptr, nullptr};
  arguments.mask_token = floats(tokens.mask_token);
  arguments.positions = floats(tokens.positions);
  return arguments;
}

}  // namespace

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
  launch_normalize_pixels(arguments, current_stream());
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
  launch_pixel_patches(arguments, rows, current_stream());
  return result;
}

at::Tensor decoder_input(const DecoderTokens& tokens, const at::Tensor& embedded) {
  if (!plain(embedded) || !plain(tokens)) return generic::decoder_input(tokens, embedded);
  const at::Tensor rows = embedded.contiguous(), visible = tokens.visible.contiguous();
  args::DecoderInput arguments = input_arguments(tokens, visible, rows);
  at::Tensor result = at::empty({rows.size(0), arguments.patches + 1, arguments.width}, rows.options());
  arguments.out = result.mutable_data_ptr<float>();
  launch_decoder_input(arguments, rows.size(0), current_stream());
  return result;
}

at::Tensor decoder_input_without(const DecoderTokens& tokens, const RemovedTokens& removed,
                                 const at::Tensor& embedded) {
  if (!plain(embedded) || !plain(tokens)) return generic::decoder_input_without(tokens, removed, embedded);
  const at::Tensor rows = embedded.contiguous(), visible = tokens.visible.contiguous(),
                   image = int32(removed.image), slot = int32(removed.slot);
  args::DecoderInput arguments = input_arguments(tokens, visible, rows);
  arguments.image = ints(image);
  arguments.removed = ints(slot);
  arguments.encoded_without = true;
  at::Tensor result = at::empty({rows.size(0), arguments.patches, arguments.width}, rows.options());
  arguments.out = result.mutable_data_ptr<float>();
  launch_decoder_input(arguments, rows.size(0), current_stream());
  return result;
}

at::Tensor starting_difference(const DecoderTokens& tokens, const StartingRows& rows) {
  if (!plain(rows.difference) || !plain(tokens) || (rows.embedded.defined() && !plain(rows.embedded))) {
    return generic::starting_difference(tokens, rows);
  }
  const at::Tensor visible = tokens.visible.contiguous(), image = int32(rows.image);
  const at::Tensor slot = rows.slot.defined() ? int32(rows.slot) : at::Tensor();
  const at::Tensor embedded = rows.embedded.defined() ? rows.embedded.contiguous() : at::Tensor();
  const int64_t variants = image.size(0);
  args::StartingDifference arguments;
  arguments.patches = tokens.positions.size(1) - 1;
  arguments.visible_per_image = visible.size(1);
  arguments.width = rows.difference.size(1);
  arguments.image = ints(image);
  arguments.removed = ints(slot);
  arguments.visible = longs(visible);
  arguments.difference = {floats(rows.difference), args::Encoding::kFloat32, nullptr, nullptr};
  if (embedded.defined()) {
    arguments.mask_token = floats(tokens.mask_token);
    arguments.embedded = {floats(embedded), args::Encoding::kFloat32, nullptr, nullptr};
  }
  at::Tensor result =
      at::empty({variants * (arguments.patches + 1), arguments.width}, rows.difference.options());
  arguments.out = result.mutable_data_ptr<float>();
  launch_starting_difference(arguments, variants, current_stream());
  return result;
}

at::Tensor delete_rows(const at::Tensor& x, const RemovedTokens& removed) {
  if (x.requires_grad()) return generic::delete_rows(x, removed);
  const at::Tensor rows = x.contiguous(), image = int32(removed.image), token = int32(removed.token);
  args::DeleteRow arguments;
  arguments.tokens = rows.size(1);
  arguments.row_bytes = rows.size(2) * static_cast<int64_t>(rows.element_size());
  arguments.image = ints(image);
  arguments.removed = ints(token);
  arguments.rows = static_cast<const char*>(rows.const_data_ptr());
  at::Tensor result = at::empty({image.size(0), rows.size(1) - 1, rows.size(2)}, rows.options());
  arguments.out = static_cast<char*>(result.mutable_data_ptr());
  launch_delete_row(arguments, image.size(0), current_stream());
  return result;
}

at::Tensor masked_tokens(const at::Tensor& visible, int64_t patches, const RemovedTokens* removed) {
  const int64_t count = removed == nullptr ? visible.size(0) : removed->image.size(0);
  if (count > kMostOfGrid) return generic::masked_tokens(visible, patches, removed);
  const at::Tensor ids = visible.contiguous();
  at::Tensor image, token;
  args::MaskedTokens arguments;
  arguments.patches = patches;
  arguments.visible_per_image = ids.size(1);
  arguments.visible = longs(ids);
  if (removed != nullptr) {
    image = int32(removed->image);
    token = int32(removed->token);
    arguments.image = ints(image);
    arguments.removed = ints(token);
  }
  at::Tensor result = at::empty({count, patches - ids.size(1)}, ids.options().dtype(at::kInt));
  arguments.out = result.mutable_data_ptr<int32_t>();
  launch_masked_tokens(arguments, count, current_stream());
  return result;
}

Clusters density_peaks(const at::Tensor& patches, const at::Tensor& noise, int64_t count,
                       const std::function<void()>& poll) {
  const int64_t n = patches.size(0), total = patches.size(1);
  if (total > kMostPatches) return generic::density_peaks(patches, noise, count, poll);
  const int64_t at_a_time = std::clamp<int64_t>(kDistances / (total * total), 1, std::min(n, kMostOfGrid));
  const auto room = [&](at::IntArrayRef sizes, at::ScalarType type) {
    return at::empty(sizes, patches.options().dtype(type));
  };
  const at::Tensor distance = room({at_a_time, total, total}, at::kFloat),
                   density = room({at_a_time, total}, at::kFloat),
                   farthest = room({at_a_time, total}, at::kFloat),
                   score = room({at_a_time, total}, at::kFloat), centres = room({n, count}, at::kInt),
                   assignment = room({n, total}, at::kInt);
  args::DensityPeaks arguments;
  arguments.patches = total;
  arguments.values = patches.size(2);
  arguments.clusters = count;
  arguments.distance = distance.mutable_data_ptr<float>();
  arguments.density = density.mutable_data_ptr<float>();
  arguments.farthest = farthest.mutable_data_ptr<float>();
  arguments.score = score.mutable_data_ptr<float>();
  for (int64_t first = 0; first < n; first += at_a_time) {
    poll();
    arguments.x = floats(patches) + first * total * arguments.values;
    arguments.noise = floats(noise) + first * total;
    arguments.centres = centres.mutable_data_ptr<int32_t>() + first * count;
    arguments.assignment = assignment.mutable_data_ptr<int32_t>() + first * total;
    launch_density_peaks(arguments, std::min(at_a_time, n - first), current_stream());
  }
  return {centres.to(at::kLong), assignment.to(at::kLong)};
}

bool list_loss(const ListLossTask& task, ListLossResult& result) {
  const int64_t lists = task.predicted.size(0), items = task.predicted.size(1);
  const auto is_float = [](const at::Tensor& x) { return !x.defined() || x.scalar_type() == at::kFloat; };
  if (items > kMostItems || !is_float(task.predicted) || !is_float(task.target) || !is_float(task.noise)) {
    return false;
  }
  const at::Tensor predicted = task.predicted.detach().contiguous(),
                   target = task.target.detach().contiguous(),
                   noise = task.noise.defined() ? task.noise.contiguous() : at::Tensor();
  result.value = at::empty({}, predicted.options());
  const at::Tensor of_list = at::empty({lists}, predicted.options().dtype(at::kDouble));
  args::ListwiseLoss arguments;
  arguments.loss = task.loss;
  arguments.items = items;
  arguments.k = task.k;
  arguments.predicted = floats(predicted);
  arguments.target = floats(target);
  if (noise.defined()) arguments.noise = floats(noise);
  arguments.list_loss = of_list.mutable_data_ptr<double>();
  arguments.value = result.value.mutable_data_ptr<float>();
  if (task.gradient) {
    result.gradient = at::empty_like(predicted);
    arguments.gradient = result.gradient.mutable_data_ptr<float>();
  }
  launch_listwise_loss(arguments, lists, current_stream());
  return true;
}

}  // namespace ltrp::cuda
