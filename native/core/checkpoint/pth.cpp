#include "core/checkpoint/pth.h"

#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>
#include <caffe2/serialize/inline_container.h>

#include <array>
#include <optional>
#include <utility>

#include "core/checkpoint/file_io.h"
#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

constexpr uint64_t kMaxPickleBytes = uint64_t{64} << 20;

[[noreturn]] void refuse(const std::string& path, const std::string& what) {
  throw Error(codes::kCheckpointFormat, "'" + path + "' is not a readable PyTorch checkpoint: " + what + ".");
}

// LibTorch's messages carry source lines after the first one.
std::string first_line(const c10::Error& error) {
  const std::string text = error.what_without_backtrace();
  return quote_name(text.substr(0, text.find('\n')));
}

// Checks what can be said before opening: the archive reader's own messages are for PyTorch's developers.
uint64_t check_magic(const std::string& path) {
  const InputFile file(path);
  std::array<unsigned char, 4> magic{};
  if (file.size() < magic.size()) refuse(path, "it has only " + std::to_string(file.size()) + " bytes");
  file.read_at(0, magic.data(), magic.size());
  if (magic[0] == 'P' && magic[1] == 'K') return file.size();
  if (magic[0] == 0x80 && magic[1] <= 5) {
    refuse(path,
           "it is in the format of PyTorch before 1.6; load it with a newer PyTorch and save it again with "
           "torch.save");
  }
  refuse(path, "it is not a zip archive as torch.save writes it");
}

// Number of elements that the view spans in its storage, and no more of them than the storage has.
void check_view(const PickleTensor& tensor, int64_t elements, const std::string& path,
                const std::string& name) {
  const auto beyond = [&]() { refuse(path, "tensor " + quote_name(name) + " reaches beyond its storage"); };
  if (tensor.sizes.size() != tensor.strides.size()) {
    refuse(path, "tensor " + quote_name(name) + " has " + std::to_string(tensor.sizes.size()) +
                     " sizes but " + std::to_string(tensor.strides.size()) + " strides");
  }
  int64_t count = 1;
  int64_t last = tensor.offset;
  if (tensor.offset < 0 || tensor.offset > elements) beyond();
  bool empty = false;
  for (size_t i = 0; i < tensor.sizes.size(); ++i) {
    const int64_t size = tensor.sizes[i];
    const int64_t stride = tensor.strides[i];
    if (size < 0 || stride < 0) refuse(path, "tensor " + quote_name(name) + " has a negative size or stride");
    empty = empty || size == 0;
    int64_t reach = 0;
    if (size == 0) continue;
    if (__builtin_mul_overflow(count, size, &count) || __builtin_mul_overflow(size - 1, stride, &reach) ||
        __builtin_add_overflow(last, reach, &last)) {
      beyond();
    }
  }
  if (empty) refuse(path, "tensor " + quote_name(name) + " has no elements");
  if (count > elements || last >= elements) beyond();
}

}  // namespace

struct PthFile::Archive {
  Archive(std::string file_path, uint64_t bytes)
      : path(std::move(file_path)), file_bytes(bytes), reader(path), pickle(read_pickle(), path) {
    if (reader.hasRecord("byteorder")) {
      std::string order(checked_size("byteorder", 16), '\0');
      reader.getRecord("byteorder", order.data(), order.size());
      if (order != "little") refuse(path, "it was written on a big-endian machine");
    }
  }

  // torch.save stores records uncompressed, so none can be larger than the file: checked before anything is
  // allocated.
  uint64_t checked_size(const std::string& record, uint64_t limit) {
    const uint64_t size = reader.getRecordSize(record);
    if (size > file_bytes || size > limit) {
      refuse(path, "its record " + quote_name(record) + " claims " + std::to_string(size) + " bytes");
    }
    return size;
  }

  std::string read_pickle() {
    if (!reader.hasRecord("data.pkl")) refuse(path, "the archive has no data.pkl");
    std::string bytes(checked_size("data.pkl", kMaxPickleBytes), '\0');
    reader.getRecord("data.pkl", bytes.data(), bytes.size());
    return bytes;
  }

  // Views of one storage usually follow each other, so the newest one is kept.
  const at::Tensor& storage(const PickleStorage& wanted, const std::string& name) {
    const std::string record = "data/" + wanted.key;
    if (record == newest_record && newest.scalar_type() == wanted.type && newest.numel() == wanted.elements) {
      return newest;
    }
    if (!reader.hasRecord(record)) {
      refuse(path,
             "the data of tensor " + quote_name(name) + " (record " + quote_name(record) + ") is missing");
    }
    const uint64_t size = checked_size(record, UINT64_MAX);
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(static_cast<uint64_t>(wanted.elements), c10::elementSize(wanted.type),
                               &bytes) ||
        bytes != size) {
      refuse(path, "the storage of tensor " + quote_name(name) + " has " + std::to_string(size) +
                       " bytes instead of " + std::to_string(wanted.elements) + " elements");
    }
    newest_record.clear();
    newest = at::empty({wanted.elements}, wanted.type);
    reader.getRecord(record, newest.data_ptr(), size);
    newest_record = record;
    return newest;
  }

  std::string path;
  uint64_t file_bytes;
  caffe2::serialize::PyTorchStreamReader reader;
  Pickle pickle;
  std::string newest_record;
  at::Tensor newest;
};

PthFile::PthFile(const std::string& path) {
  const uint64_t bytes = check_magic(path);
  try {
    archive_ = std::make_unique<Archive>(path, bytes);
  } catch (const c10::Error& error) {
    refuse(path, "the zip archive is damaged (" + first_line(error) + ")");
  }
}

PthFile::~PthFile() = default;

PickleRef PthFile::root() const { return archive_->pickle.root(); }

at::Tensor PthFile::load(const PickleTensor& tensor, const std::string& name) {
  const PickleStorage& storage = *tensor.storage;
  if (!c10::isFloatingType(tensor.type)) {
    refuse(archive_->path, "tensor " + quote_name(name) + " holds integers where weights are expected");
  }
  const auto item = static_cast<int64_t>(c10::elementSize(tensor.type));
  int64_t elements = storage.elements;
  if (storage.type != tensor.type) {  // only untyped storages, counted in bytes
    if (storage.type != at::kByte || elements % item != 0) {
      refuse(archive_->path, "tensor " + quote_name(name) + " has another type than its storage");
    }
    elements /= item;
  }
  check_view(tensor, elements, archive_->path, name);
  try {
    const at::Tensor& data = archive_->storage(storage, name);
    const at::Tensor typed = storage.type == tensor.type ? data : data.view(tensor.type);
    return typed.as_strided(tensor.sizes, tensor.strides, tensor.offset).clone(at::MemoryFormat::Contiguous);
  } catch (const c10::OutOfMemoryError&) {
    throw;
  } catch (const c10::Error& error) {
    refuse(archive_->path,
           "the data of tensor " + quote_name(name) + " cannot be read (" + first_line(error) + ")");
  }
}

}  // namespace ltrp
