#include "core/checkpoint/tensor_data.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

namespace ltrp {
namespace {

constexpr int64_t kPieceBytes = int64_t{4} << 20;

using CrcTables = std::array<std::array<uint32_t, 256>, 8>;

constexpr CrcTables make_crc_tables() {
  CrcTables tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = value >> 1 ^ ((value & 1) != 0 ? 0xEDB88320U : 0);
    tables[0][i] = value;
  }
  for (size_t k = 1; k < tables.size(); ++k) {
    for (size_t i = 0; i < 256; ++i) {
      tables[k][i] = tables[k - 1][i] >> 8 ^ tables[0][tables[k - 1][i] & 255];
    }
  }
  return tables;
}
constexpr CrcTables kCrc = make_crc_tables();

}  // namespace

uint32_t crc32(uint32_t sum, const void* data, uint64_t bytes) {
  const auto* at = static_cast<const uint8_t*>(data);
  sum = ~sum;
  for (; bytes >= 8; bytes -= 8, at += 8) {  // eight bytes at a time, by eight tables
    uint32_t low = 0, high = 0;
    std::memcpy(&low, at, 4);
    std::memcpy(&high, at + 4, 4);
    low ^= sum;
    sum = kCrc[7][low & 255] ^ kCrc[6][low >> 8 & 255] ^ kCrc[5][low >> 16 & 255] ^ kCrc[4][low >> 24] ^
          kCrc[3][high & 255] ^ kCrc[2][high >> 8 & 255] ^ kCrc[1][high >> 16 & 255] ^ kCrc[0][high >> 24];
  }
  for (; bytes > 0; --bytes, ++at) sum = sum >> 8 ^ kCrc[0][(sum ^ *at) & 255];
  return ~sum;
}

bool all_finite(const float* values, int64_t count) {
  bool finite = true;
  for (int64_t i = 0; i < count; ++i) finite &= std::fabs(values[i]) <= std::numeric_limits<float>::max();
  return finite;
}

bool read_floats(const InputFile& file, uint64_t offset, at::ScalarType type, int64_t count,
                 float* destination, const RunContext& context, uint32_t* checksum) {
  const auto item = static_cast<int64_t>(c10::elementSize(type));
  const int64_t piece = kPieceBytes / item;
  at::Tensor buffer;
  if (type != at::kFloat) buffer = at::empty({std::min(piece, count)}, type);
  bool finite = true;
  for (int64_t begin = 0; begin < count; begin += piece) {
    const int64_t some = std::min(piece, count - begin);
    float* out = destination + begin;
    void* raw = buffer.defined() ? buffer.data_ptr() : out;
    file.read_at(offset + static_cast<uint64_t>(begin * item), raw, static_cast<uint64_t>(some * item),
                 context);
    if (checksum) *checksum = crc32(*checksum, raw, static_cast<uint64_t>(some * item));
    if (buffer.defined()) at::from_blob(out, {some}, at::kFloat).copy_(buffer.narrow(0, 0, some));
    finite = all_finite(out, some) && finite;
  }
  return finite;
}

}  // namespace ltrp
