#include "core/training/checksum.h"

#include <bit>
#include <cstdint>
#include <cstdio>
#include <cstring>

namespace ltrp {

namespace {

// Eight bytes at a time through steps that can each be undone, so that no changed word goes unnoticed.
class Hash {
 public:
  void add(const void* data, size_t bytes) {
    const auto* next = static_cast<const char*>(data);
    mix(bytes);
    for (; bytes >= sizeof(uint64_t); bytes -= sizeof(uint64_t), next += sizeof(uint64_t)) {
      uint64_t word;
      std::memcpy(&word, next, sizeof word);
      mix(word);
    }
    uint64_t rest = 0;
    if (bytes > 0) std::memcpy(&rest, next, bytes);  // an empty tensor has no address
    mix(rest);
  }
  void add(const std::string& text) { add(text.data(), text.size()); }

  std::string text() const {
    char digits[17];
    std::snprintf(digits, sizeof digits, "%016llx", static_cast<unsigned long long>(state_));
    return digits;
  }

 private:
  void mix(uint64_t word) {
    state_ = std::rotl(state_ ^ word, 29) * 0x9e3779b97f4a7c15u;
    state_ ^= state_ >> 32;
  }

  uint64_t state_ = 0x2545f4914f6cdd1du;
};

}  // namespace

std::string checksum(const TensorMap& tensors, const std::map<std::string, std::string>& metadata) {
  Hash hash;
  for (const auto& [name, text] : metadata) {
    if (name == kChecksumKey) continue;
    hash.add(name);
    hash.add(text);
  }
  for (const auto& [name, tensor] : tensors) {
    hash.add(name);
    const at::Tensor bytes = tensor.contiguous();
    hash.add(bytes.const_data_ptr(), bytes.nbytes());
  }
  return hash.text();
}

}  // namespace ltrp
