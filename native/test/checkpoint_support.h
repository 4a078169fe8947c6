// Helpers of the checkpoint tests: scratch folders, the golden files, and .pth archives built by hand.
#pragma once

#include <ATen/ATen.h>
#include <caffe2/serialize/inline_container.h>
#include <doctest/doctest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <random>
#include <string>

#include "core/checkpoint/checkpoint.h"
#include "core/checkpoint/names.h"
#include "core/error.h"
#include "core/model/mae.h"
#include "core/model/ranker.h"

namespace ltrp::test {

namespace fs = std::filesystem;

// A folder that disappears with the object.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string pattern = (fs::temp_directory_path() / "ltrp-test-XXXXXX").string();
    REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;

  std::string operator/(const std::string& name) const { return (path_ / name).string(); }
  size_t files() const {
    return static_cast<size_t>(std::distance(fs::directory_iterator(path_), fs::directory_iterator()));
  }

 private:
  fs::path path_;
};

// The folder of golden data; nothing, with a visible message, where it is absent.
inline std::optional<fs::path> golden_folder() {
  std::vector<fs::path> candidates;
  if (const char* shared = std::getenv("LTRP_SHARED")) candidates.push_back(shared);
#ifdef LTRP_SOURCE_DIR
  for (fs::path folder = LTRP_SOURCE_DIR; folder.has_relative_path(); folder = folder.parent_path()) {
    candidates.push_back(folder.parent_path() / "shared");
  }
#endif
  for (const fs::path& candidate : candidates) {
    if (fs::is_directory(candidate / "golden")) return candidate / "golden";
  }
  MESSAGE("SKIPPED: no shared/golden folder (set LTRP_SHARED to the folder that has it)");
  return std::nullopt;
}

inline std::string read_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

inline void write_bytes(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

// Calls `function` and checks that it throws Error with this code and a message with this part.
template <typename Function>
void check_refused(const char* code, const std::string& part, const Function& function) {
  try {
    function();
    FAIL_CHECK("not refused: ", part);
  } catch (const Error& error) {
    CHECK(std::string(error.code()) == code);
    const std::string message = error.what();
    CAPTURE(message);
    CHECK(message.find(part) != std::string::npos);
  }
}

// Must either work or be refused; anything else (another exception, a crash) is a failure.
template <typename Function>
bool works_or_is_refused(const Function& function) {
  try {
    function();
    return true;
  } catch (const Error&) {
    return false;
  }
}

// One to four random bytes changed, half of the time near the beginning or the end, where headers and
// directories are.
inline std::string mutate(std::string bytes, std::mt19937_64& random, size_t header_bytes) {
  const int changes = 1 + static_cast<int>(random() % 4);
  for (int i = 0; i < changes; ++i) {
    size_t position = random() % bytes.size();
    const uint64_t where = random() % 4;
    if (where < 2) position = random() % std::min(bytes.size(), header_bytes);
    if (where == 2) position = bytes.size() - 1 - random() % std::min(bytes.size(), header_bytes);
    bytes[position] = random() % 2 == 0 ? static_cast<char>(random())
                                        : static_cast<char>(bytes[position] ^ (1 << random() % 8));
  }
  if (random() % 16 == 0) bytes.resize(random() % bytes.size());
  return bytes;
}

// --- models
// ---------------------------------------------------------------------------------------------------------------

inline MaeConfig tiny_mae_config() {
  MaeConfig config;
  config.image_height = 8;
  config.image_width = 8;
  config.patch_size = 4;
  config.encoder = {8, 1, 2, 16};
  config.decoder = TransformerConfig{4, 1, 1, 8};
  return config;
}

inline RankerConfig tiny_ranker_config(RankerHead head) {
  RankerConfig config;
  config.image_height = 8;
  config.image_width = 12;
  config.patch_size = 4;
  config.encoder = {8, 2, 2, 16};
  config.head = head;
  return config;
}

template <typename Config>
TensorMap random_tensors(const Config& config) {
  TensorMap tensors;
  for (const ExpectedTensor& tensor : expected_tensors(config, canonical_names())) {
    tensors[tensor.canonical] = at::rand(tensor.shape) - 0.5;
  }
  return tensors;
}

inline TensorMap prefixed(const TensorMap& tensors, const std::string& prefix) {
  TensorMap result;
  for (const auto& [name, tensor] : tensors) result[prefix + name] = tensor;
  return result;
}

inline void check_same(const TensorMap& a, const TensorMap& b) {
  REQUIRE(a.size() == b.size());
  for (const auto& [name, tensor] : a) {
    CAPTURE(name);
    REQUIRE(b.count(name) == 1);
    CHECK((tensor.scalar_type() == at::kFloat));
    CHECK(tensor.is_contiguous());
    CHECK(at::equal(tensor, b.at(name)));
  }
}

// The heads of the tiny models are not the usual ones, so every load of them says so.
inline CheckpointOverrides tiny_heads() {
  CheckpointOverrides overrides;
  overrides.encoder_heads = 2;
  overrides.decoder_heads = 1;
  return overrides;
}

inline bool has_note(const std::vector<std::string>& notes, const std::string& part) {
  return std::any_of(notes.begin(), notes.end(),
                     [&](const std::string& note) { return note.find(part) != std::string::npos; });
}

// --- pickles
// --------------------------------------------------------------------------------------------------------------

inline std::string little_endian(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

inline std::string pickle_text(const std::string& text) { return "X" + little_endian(text.size(), 4) + text; }
inline std::string pickle_int(int64_t value) {
  return std::string("\x8a\x08", 2) + little_endian(static_cast<uint64_t>(value), 8);
}
inline std::string pickle_ints(const std::vector<int64_t>& values) {
  std::string text = "(";
  for (const int64_t value : values) text += pickle_int(value);
  return text + "t";
}
// os.system('touch FILE')
inline std::string pickle_system(const std::string& file) {
  return "cposix\nsystem\n" + pickle_text("touch " + file) + "\x85R";
}

struct PickledTensor {
  std::string storage_type = "FloatStorage";
  std::string key = "0";
  int64_t elements = 0;
  int64_t offset = 0;
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
};

inline std::string pickle_tensor(const PickledTensor& tensor) {
  return "ctorch._utils\n_rebuild_tensor_v2\n((" + pickle_text("storage") + "ctorch\n" + tensor.storage_type +
         "\n" + pickle_text(tensor.key) + pickle_text("cpu") + pickle_int(tensor.elements) + "tQ" +
         pickle_int(tensor.offset) + pickle_ints(tensor.sizes) + pickle_ints(tensor.strides) + "\x89" +
         "ccollections\nOrderedDict\n)RtR";
}

// {name: value, ...} of already pickled values.
inline std::string pickle_dict(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string text = "}(";
  for (const auto& [name, value] : entries) text += pickle_text(name) + value;
  return text + "u";
}

inline std::string pickle_file(const std::string& body) { return std::string("\x80\x02", 2) + body + "."; }

// A .pth archive with this pickle and these storages.
inline void write_pth(const std::string& path, const std::string& pickle,
                      const std::vector<at::Tensor>& storages) {
  caffe2::serialize::PyTorchStreamWriter writer(path);
  writer.writeRecord("data.pkl", pickle.data(), pickle.size());
  for (size_t i = 0; i < storages.size(); ++i) {
    const at::Tensor data = storages[i].contiguous();
    writer.writeRecord("data/" + std::to_string(i), data.data_ptr(), data.nbytes());
  }
  writer.writeEndOfFile();
}

// A state dict whose tensors have storages of their own, added to `storages`. `prefix` goes before the names.
inline std::string pickle_state(const TensorMap& tensors, std::vector<at::Tensor>& storages,
                                const std::string& prefix = "") {
  std::vector<std::pair<std::string, std::string>> entries;
  for (const auto& [name, tensor] : tensors) {
    const char* type = tensor.scalar_type() == at::kHalf       ? "HalfStorage"
                       : tensor.scalar_type() == at::kBFloat16 ? "BFloat16Storage"
                       : tensor.scalar_type() == at::kDouble   ? "DoubleStorage"
                       : tensor.scalar_type() == at::kLong     ? "LongStorage"
                                                               : "FloatStorage";
    PickledTensor pickled{type,
                          std::to_string(storages.size()),
                          tensor.numel(),
                          0,
                          tensor.sizes().vec(),
                          tensor.contiguous().strides().vec()};
    entries.emplace_back(prefix + name, pickle_tensor(pickled));
    storages.push_back(tensor);
  }
  return pickle_dict(entries);
}

// A state dict under 'model', one storage a tensor, as torch.save writes it; `more` are further entries
// beside 'model'.
inline void write_model_pth(const std::string& path, const TensorMap& tensors,
                            const std::vector<std::pair<std::string, std::string>>& more = {}) {
  std::vector<at::Tensor> storages;
  std::vector<std::pair<std::string, std::string>> root = {{"model", pickle_state(tensors, storages)}};
  root.insert(root.end(), more.begin(), more.end());
  write_pth(path, pickle_file(pickle_dict(root)), storages);
}

}  // namespace ltrp::test
