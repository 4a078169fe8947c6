// What one kind of device has to bring: the kernels, and matrix products with weights packed once. The
// operators of this folder's headers turn tensors into arguments and call the backend of the device that
// their tensors are on.
#pragma once

#include <ATen/core/Tensor.h>
#include <c10/util/ArrayRef.h>

#include <cstdint>
#include <memory>

#include "kernels/arguments.h"
#include "kernels/precision.h"

namespace ltrp {

class Queue;
struct RoundedRows;
struct ProductRows;

// Weights [N, K] of a product as the backend wants them.
struct PackedWeight {
  Precision precision = Precision::kFloat32;
  int64_t outputs = 0;  // N
  int64_t inputs = 0;   // K
  at::Tensor values;
  at::Tensor scale;      // [N], where the precision needs it
  at::Tensor sums = {};  // [N], where offsets of the rows are taken out again by our own products
  at::Tensor one = {};   // [], where the library asks for a scale that is not wanted
};

// What the core makes of LibTorch's operators on a CPU (core/model/decoder_input.h,
// core/engine/density_peaks.h, core/training/losses.h), as kernels.
struct SpecialKernels {
  void (*decoder_input)(const args::DecoderInput&, int64_t variants);
  void (*starting_difference)(const args::StartingDifference&, int64_t variants);
  void (*delete_row)(const args::DeleteRow&, int64_t variants);
  void (*masked_tokens)(const args::MaskedTokens&, int64_t variants);
  void (*density_peaks)(const args::DensityPeaks&, int64_t images);
  void (*list_loss)(const args::ListwiseLoss&, int64_t lists);
};

struct Backend {
  const char* name;

  // Kernels: all rows, variants or images of the arguments. They may return before the work is done, in the
  // order of the device's current queue.
  void (*layer_norm_difference)(const args::LayerNormDifference&, int64_t rows);
  void (*gelu_difference)(const args::GeluDifference&, int64_t rows);
  void (*round_rows)(const args::RoundRows&, int64_t rows);
  void (*add_rows)(const args::AddRows&, int64_t rows);
  void (*row_sums)(const args::RowSums&, int64_t rows);
  void (*split_heads)(const args::SplitHeads&, int64_t variants);
  void (*layer_norm)(const args::LayerNormRows&, int64_t rows);
  void (*add_layer_norm)(const args::AddLayerNorm&, int64_t rows);
  void (*gelu)(const args::GeluRows&, int64_t rows);
  void (*patches)(const args::PatchRows&, int64_t rows);
  void (*attention)(const args::Attention&);
  void (*removal_attention)(const args::RemovalAttention&, int64_t images);
  // Null: LibTorch's operators do it.
  void (*similarity)(const args::Similarity&, int64_t variants);
  // squares [variants, slots] float32 is overwritten; see large_rows() in kernels/delta.h.
  at::Tensor (*large_rows)(const at::Tensor& squares, const at::Tensor& unread, double tolerance);

  // Bytes to pixels, see kernels/pixels.h.
  at::Tensor (*normalize_pixels)(const at::Tensor& bytes, at::ArrayRef<double> mean,
                                 at::ArrayRef<double> std);
  RoundedRows (*byte_patch_rows)(const at::Tensor& bytes, at::ArrayRef<double> mean, at::ArrayRef<double> std,
                                 int64_t patch_size, const at::Tensor& ids, Precision precision);

  // Null: LibTorch's operators do these.
  const SpecialKernels* special;

  // Products. `encoding`: how rows of that precision are stored for multiply().
  bool (*has_fast_products)(Precision);
  args::Encoding (*encoding)(Precision);
  PackedWeight (*pack)(const at::Tensor& weight, Precision);
  // `into`: where the product and its rows' scales go, on a CPU; null: into new tensors.
  ProductRows (*multiply)(const PackedWeight&, const RoundedRows&, const ProductRows* into);

  // Values of a layer that are best taken through it at a time, and by how many threads of the caller's at
  // once.
  int64_t (*values_at_a_time)();
  int64_t (*callers)();
  // Floating-point operations that are worth a piece of work between two looks at the cancel flag: enough for
  // full speed of the products, few enough that an abort is answered within 100 ms.
  double (*flops_at_a_time)();
  // Calls return before the work is done: there is nothing in sharing work out among threads, and large
  // pieces are best.
  bool asynchronous;
  // See kernels/queue.h.
  std::unique_ptr<Queue> (*open_queue)(c10::Device device);
  // Bytes that may still be allocated on the current device; a CPU does not say.
  int64_t (*free_memory)();
};

// Kept rows of a variant come in groups of this many, about a dozen for all of its `slots`: products then
// have few different sizes, for each of which libraries prepare code or choose an algorithm.
inline int64_t rows_together(int64_t slots) { return slots < 12 ? 1 : slots / 12; }

// The CPU's is always there; another device's core registers its own.
const Backend& backend_of(c10::DeviceType device);
inline const Backend& backend_of(const at::Tensor& x) { return backend_of(x.device().type()); }
// Returns the one that was registered before; null: none. Nothing may be computing on that device meanwhile.
const Backend* register_backend(c10::DeviceType device, const Backend* backend);

}  // namespace ltrp
