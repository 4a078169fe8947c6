// Every refusal of the core is an ltrp::Error: a stable code for programs and one sentence for people.
#pragma once

#include <stdexcept>
#include <string>
#include <utility>

namespace ltrp {

// Stable codes; JavaScript sees them as `error.code`.
namespace codes {
inline constexpr const char* kInvalidArgument = "ERR_LTRP_INVALID_ARGUMENT";
inline constexpr const char* kFileNotFound = "ERR_LTRP_FILE_NOT_FOUND";
inline constexpr const char* kFileRead = "ERR_LTRP_FILE_READ";
inline constexpr const char* kFileWrite = "ERR_LTRP_FILE_WRITE";
inline constexpr const char* kCheckpointFormat =
    "ERR_LTRP_CHECKPOINT_FORMAT";  // the bytes are not a valid file of its kind
inline constexpr const char* kCheckpointContent =
    "ERR_LTRP_CHECKPOINT_CONTENT";  // a valid file, the wrong tensors
inline constexpr const char* kUnsupported = "ERR_LTRP_UNSUPPORTED";
// A result is NaN or infinite although what went in is not.
inline constexpr const char* kNotFinite = "ERR_LTRP_NOT_FINITE";
inline constexpr const char* kDisposed = "ERR_LTRP_DISPOSED";
inline constexpr const char* kOutOfMemory = "ERR_LTRP_OUT_OF_MEMORY";
inline constexpr const char* kCancelled = "ERR_LTRP_CANCELLED";
inline constexpr const char* kInternal = "ERR_LTRP_INTERNAL";
}  // namespace codes

class Error : public std::runtime_error {
 public:
  Error(const char* code, const std::string& message) : std::runtime_error(message), code_(code) {}
  // One of ltrp::codes.
  const char* code() const noexcept { return code_; }

 private:
  const char* code_;
};

}  // namespace ltrp
