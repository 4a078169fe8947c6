// Reads pickles (protocols 2 to 5) as inert data.
//
// A pickle is a program that calls whatever Python function it names. This interpreter calls nothing: it
// builds numbers, texts, lists, tuples, dictionaries and descriptions of PyTorch tensors, and turns every
// other object into a PickleOpaque that only remembers what the pickle wanted. A hostile pickle therefore
// does nothing at all.
#pragma once

#include <ATen/core/ScalarType.h>

#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "core/run_context.h"

namespace ltrp {

struct PickleValue;
using PickleRef = const PickleValue*;  // owned by the Pickle it came from

struct PickleNone {};
struct PickleBytes {
  std::string data;
};
struct PickleTuple {
  std::vector<PickleRef> items;
};
struct PickleList {
  std::vector<PickleRef> items;
};
struct PickleDict {  // dict and collections.OrderedDict, in the order written; a repeated key appears twice
  std::vector<std::pair<PickleRef, PickleRef>> entries;
};
struct PickleGlobal {
  std::string name;  // "module.attribute"
};
struct PickleStorage {
  at::ScalarType type = at::kByte;  // kByte for torch.storage.UntypedStorage
  std::string key;                  // record of the archive: data/KEY
  int64_t elements = 0;             // of `type`
};
struct PickleTensor {  // a strided view of a storage; sizes and strides are not checked yet
  const PickleStorage* storage = nullptr;
  at::ScalarType type = at::kFloat;
  int64_t offset = 0;  // elements of `type`
  std::vector<int64_t> sizes;
  std::vector<int64_t> strides;
};
struct PickleOpaque {
  std::string name;           // what would have been called, "module.attribute"
  PickleRef state = nullptr;  // its attributes, when the pickle sets them
};

struct PickleValue {
  std::variant<PickleNone, bool, int64_t, double, std::string, PickleBytes, PickleTuple, PickleList,
               PickleDict, PickleGlobal, PickleStorage, PickleTensor, PickleOpaque>
      value;

  template <typename T>
  const T* as() const {
    return std::get_if<T>(&value);
  }
  // "a dict", "an int", "an inert posix.system": for messages.
  std::string description() const;
};

// Values live in one arena and refer to each other by plain pointers, so that neither depth nor cycles can
// hurt.
class Pickle {
 public:
  // `source` names the file in messages. Error(kCheckpointFormat) for malformed bytes, unsupported opcodes
  // and pickles beyond 64 MiB, 2 million values or 128 MiB of texts and lists, far more than any checkpoint
  // needs. Error(kCancelled).
  Pickle(std::string_view bytes, const std::string& source, const RunContext& context = {});
  PickleRef root() const { return root_; }

 private:
  std::deque<PickleValue> arena_;
  PickleRef root_ = nullptr;
};

// The value of a text key in a dictionary (the last one, as in Python); null when absent.
PickleRef find_key(const PickleDict& dict, std::string_view key);

}  // namespace ltrp
