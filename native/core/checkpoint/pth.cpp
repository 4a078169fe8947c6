#include "core/checkpoint/pth.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "core/checkpoint/tensor_data.h"
#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

constexpr uint64_t kMaxPickleBytes = uint64_t{64} << 20;
constexpr const char* kPickleRecord = "data.pkl";

// The folder of the archive that holds the pickle; nothing when there is no such record.
std::optional<std::string> folder_of(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    const size_t slash = name.find('/');
    if (slash != std::string::npos && std::string_view(name).substr(slash + 1) == kPickleRecord)
      return name.substr(0, slash + 1);
  }
  return std::nullopt;
}

std::string describe_archive(const std::vector<std::string>& names) {
  const auto any = [&](std::string_view suffix) {
    return std::any_of(names.begin(), names.end(),
                       [&](const std::string& name) { return name.ends_with(suffix); });
  };
  if (any(".npy")) return "it is a NumPy archive (.npz)";
  if (any("model.weights.h5")) return "it is a Keras model";
  std::string text =
      "it is a zip archive without a " + std::string(kPickleRecord) + "; it holds " + list_names(names, 120);
  if (any(".pth") || any(".pt") || any(".safetensors") || any(".bin") || any(".ckpt")) {
    text += "; unpack it first";
  }
  return text;
}

}  // namespace

// Part of a tensor on its way to float32; `offset` in elements of `type` from the beginning of the record.
struct PthFile::View {
  ZipRecord record;
  const std::string& name;
  at::ScalarType type;
  int64_t offset;
  std::span<const int64_t> sizes, strides;

  int64_t count() const {
    int64_t product = 1;
    for (const int64_t size : sizes) product *= size;
    return product;
  }
  // From the first to the last element that it touches.
  int64_t reach() const {
    int64_t last = 0;
    for (size_t i = 0; i < sizes.size(); ++i) last += (sizes[i] - 1) * strides[i];
    return last + 1;
  }
  bool contiguous() const {
    int64_t expected = 1;
    for (size_t i = sizes.size(); i-- > 0;) {
      if (sizes[i] != 1 && strides[i] != expected) return false;
      expected *= sizes[i];
    }
    return true;
  }
};

void PthFile::refuse(const std::string& what) const {
  throw Error(codes::kCheckpointFormat,
              "'" + archive_.file().path() + "' is not a readable PyTorch checkpoint: " + what + ".");
}

PthFile::PthFile(const std::string& path, const RunContext& context) : archive_(path, context) {
  const std::vector<std::string> names = archive_.names();
  const auto folder = folder_of(names);
  if (!folder) refuse(describe_archive(names));
  folder_ = *folder;
  constexpr uint64_t kMaxWord = 16;
  if (archive_.has(folder_ + "byteorder") && archive_.read(folder_ + "byteorder", kMaxWord) != "little")
    refuse("it was written on a big-endian machine");
  pickle_ = std::make_unique<Pickle>(archive_.read(folder_ + kPickleRecord, kMaxPickleBytes, context), path,
                                     context);
}

bool PthFile::read(const PickleTensor& tensor, const std::string& name, float* destination,
                   const RunContext& context) const {
  if (!c10::isFloatingType(tensor.type))
    refuse("tensor " + quote_name(name) + " holds integers where weights are expected");
  const PickleStorage& storage = *tensor.storage;
  const std::string key = folder_ + "data/" + storage.key;
  if (!archive_.has(key))
    refuse("the data of tensor " + quote_name(name) + " (record " + quote_name(key) + ") is missing");
  const ZipRecord record = archive_.record(key);
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(static_cast<uint64_t>(storage.elements), c10::elementSize(storage.type),
                             &bytes) ||
      bytes != record.bytes) {
    refuse("the storage of tensor " + quote_name(name) + " has " + std::to_string(record.bytes) +
           " bytes instead of " + std::to_string(storage.elements) + " elements");
  }
  if (storage.type != tensor.type && storage.type != at::kByte)  // untyped storages are counted in bytes
    refuse("tensor " + quote_name(name) + " has another type than its storage");
  const auto elements = static_cast<int64_t>(bytes / c10::elementSize(tensor.type));

  if (tensor.sizes.size() != tensor.strides.size()) {
    refuse("tensor " + quote_name(name) + " has " + std::to_string(tensor.sizes.size()) + " sizes but " +
           std::to_string(tensor.strides.size()) + " strides");
  }
  int64_t count = 1, last = tensor.offset;
  bool inside = tensor.offset >= 0;
  for (size_t i = 0; i < tensor.sizes.size() && inside; ++i) {
    const int64_t size = tensor.sizes[i], stride = tensor.strides[i];
    if (size < 0 || stride < 0) refuse("tensor " + quote_name(name) + " has a negative size or stride");
    if (size == 0) refuse("tensor " + quote_name(name) + " has no elements");
    int64_t reach = 0;
    inside = !__builtin_mul_overflow(count, size, &count) &&
             !__builtin_mul_overflow(size - 1, stride, &reach) && !__builtin_add_overflow(last, reach, &last);
  }
  if (!inside || last >= elements) refuse("tensor " + quote_name(name) + " reaches beyond its storage");
  return read_view({record, name, tensor.type, tensor.offset, tensor.sizes, tensor.strides}, destination,
                   context);
}

bool PthFile::read_view(const View& view, float* destination, const RunContext& context) const {
  const auto item = static_cast<int64_t>(c10::elementSize(view.type));
  const int64_t count = view.count(), reach = view.reach();
  const uint64_t begin = view.record.offset + static_cast<uint64_t>(view.offset * item);
  if (view.contiguous()) {
    uint32_t sum = 0;
    const bool whole = static_cast<uint64_t>(count * item) == view.record.bytes;
    const bool checked = whole && view.record.checksum != 0;
    const bool finite =
        read_floats(archive_.file(), begin, view.type, count, destination, context, checked ? &sum : nullptr);
    if (checked && sum != view.record.checksum)
      refuse("the data of tensor " + quote_name(view.name) + " is damaged: its checksum is wrong");
    return finite;
  }
  // Elements that lie far apart are read row by row, the rest at once.
  constexpr int64_t kNear = int64_t{1} << 20;
  if (reach > kNear && reach / 4 > count) {
    const int64_t row = count / view.sizes[0];
    bool finite = true;
    for (int64_t i = 0; i < view.sizes[0]; ++i) {
      context.check();
      View part = view;
      part.offset += i * view.strides[0];
      part.sizes = view.sizes.subspan(1);
      part.strides = view.strides.subspan(1);
      finite = read_view(part, destination + i * row, context) && finite;
    }
    return finite;
  }
  at::Tensor raw = at::empty({reach}, view.type);
  archive_.file().read_at(begin, raw.data_ptr(), static_cast<uint64_t>(reach * item), context);
  const at::Tensor strided = raw.as_strided(view.sizes, view.strides, 0);
  const at::Tensor out = at::from_blob(destination, view.sizes, at::kFloat);
  for (int64_t i = 0; i < view.sizes[0]; ++i) {
    context.check();
    out.select(0, i).copy_(strided.select(0, i));
  }
  return all_finite(destination, count);
}

}  // namespace ltrp
