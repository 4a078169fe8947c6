// Tells a training checkpoint whose bytes have changed since it was written.
#pragma once

#include <map>
#include <string>

#include "core/weights/weights.h"

namespace ltrp {

// The metadata entry that holds it.
inline constexpr const char* kChecksumKey = "checksum";

// Of names, bytes and metadata (but the entry of the checksum itself); tensors contiguous on the CPU. Every
// change of up to eight bytes within one word changes it, any other one but with a chance of 2^-64.
std::string checksum(const TensorMap& tensors, const std::map<std::string, std::string>& metadata);

}  // namespace ltrp
