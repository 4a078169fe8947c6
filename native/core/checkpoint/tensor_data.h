// Values of tensors on their way from a file to float32.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

#include "core/checkpoint/file_io.h"
#include "core/run_context.h"

namespace ltrp {

// Of zip archives (IEEE 802.3), in pieces: crc32(crc32(0, a), b) is that of both.
uint32_t crc32(uint32_t sum, const void* data, uint64_t bytes);

// Whether all values are finite.
bool all_finite(const float* values, int64_t count);

// Reads `count` values of a floating-point `type` that lie in `file` from byte `offset` on, one after the
// other, into float32 `destination`, piece by piece; false when one is NaN or infinite as float32.
// `checksum`, if given, goes on over the bytes. Error(kFileRead), Error(kCancelled).
bool read_floats(const InputFile& file, uint64_t offset, at::ScalarType type, int64_t count,
                 float* destination, const RunContext& context, uint32_t* checksum = nullptr);

}  // namespace ltrp
