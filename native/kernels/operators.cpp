// Operators that are one call of the backend of the device that their tensors are on.
#include "kernels/backend.h"
#include "kernels/clustering.h"
#include "kernels/linear.h"
#include "kernels/list_loss.h"
#include "kernels/pixels.h"
#include "kernels/variants.h"

namespace ltrp {

at::Tensor normalize_pixels(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std) {
  TORCH_CHECK(bytes.dim() == 4 && bytes.size(3) == 3 && bytes.scalar_type() == at::kByte,
              "bytes must be [n, H, W, 3] uint8");
  TORCH_CHECK(mean.size() == 3 && std.size() == 3, "mean and std need three values each");
  return backend_of(bytes).normalize_pixels(bytes, mean, std);
}

RoundedRows byte_patch_rows(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std,
                            int64_t patch_size, const at::Tensor& ids, Precision precision) {
  return backend_of(bytes).byte_patch_rows(bytes, mean, std, patch_size, ids, precision);
}

at::Tensor decoder_input(const DecoderTokens& tokens, const at::Tensor& embedded) {
  return backend_of(embedded).decoder_input(tokens, embedded);
}

at::Tensor decoder_input_without(const DecoderTokens& tokens, const RemovedTokens& removed,
                                 const at::Tensor& embedded) {
  return backend_of(embedded).decoder_input_without(tokens, removed, embedded);
}

at::Tensor starting_difference(const DecoderTokens& tokens, const StartingRows& rows) {
  return backend_of(rows.difference).starting_difference(tokens, rows);
}

at::Tensor delete_rows(const at::Tensor& x, const RemovedTokens& removed) {
  return backend_of(x).delete_rows(x, removed);
}

at::Tensor masked_tokens(const at::Tensor& visible, int64_t patches, const RemovedTokens* removed) {
  return backend_of(visible).masked_tokens(visible, patches, removed);
}

Clusters density_peaks(const at::Tensor& patches, const at::Tensor& noise, int64_t count,
                       const std::function<void()>& poll) {
  return backend_of(patches).density_peaks(patches, noise, count, poll);
}

bool has_list_loss(const at::Tensor& predicted) { return backend_of(predicted).list_loss != nullptr; }

bool list_loss(const ListLossTask& task, ListLossResult& result) {
  return has_list_loss(task.predicted) && backend_of(task.predicted).list_loss(task, result);
}

}  // namespace ltrp
