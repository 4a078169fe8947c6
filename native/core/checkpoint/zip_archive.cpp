#include "core/checkpoint/zip_archive.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string_view>

#include "core/checkpoint/tensor_data.h"
#include "core/checkpoint/text.h"
#include "core/error.h"

namespace ltrp {
namespace {

static_assert(std::endian::native == std::endian::little, "zip archives are little-endian");

constexpr uint64_t kMaxDirectoryBytes = uint64_t{16} << 20;  // some 150,000 records
constexpr uint64_t kEndBytes = 22, kMaxComment = 0xFFFF;
constexpr uint64_t kEnd64LocatorBytes = 20, kEnd64Bytes = 56;
constexpr uint64_t kEntryBytes = 46, kLocalBytes = 30;
constexpr uint32_t kEndMark = 0x06054b50, kEnd64LocatorMark = 0x07064b50, kEnd64Mark = 0x06064b50;
constexpr uint32_t kEntryMark = 0x02014b50, kLocalMark = 0x04034b50;
constexpr uint32_t kIn64 = 0xFFFFFFFF;  // "see the 64-bit field"

template <typename T>
T at(std::string_view bytes, size_t offset) {
  T value{};
  if (offset + sizeof(T) <= bytes.size()) std::memcpy(&value, bytes.data() + offset, sizeof(T));
  return value;
}

}  // namespace

void ZipArchive::refuse(const std::string& what) const {
  throw Error(codes::kCheckpointFormat,
              "'" + file_.path() + "' is not a readable PyTorch checkpoint: " + what + ".");
}

ZipArchive::ZipArchive(const std::string& path, const RunContext& context) : file_(path) {
  const uint64_t size = file_.size();
  std::string tail(std::min(size, kEndBytes + kMaxComment), '\0');
  file_.read_at(size - tail.size(), tail.data(), tail.size());
  size_t end = tail.size() < kEndBytes ? std::string::npos : tail.size() - kEndBytes;
  while (end != std::string::npos && at<uint32_t>(tail, end) != kEndMark)
    end = end == 0 ? std::string::npos : end - 1;
  if (end == std::string::npos) {
    refuse("the zip archive is cut off after " + std::to_string(size) +
           " bytes, its directory is missing; the download or copy did not finish");
  }
  const uint64_t end_offset = size - tail.size() + end;
  uint64_t bytes = at<uint32_t>(tail, end + 12), offset = at<uint32_t>(tail, end + 16);
  if (end_offset >= kEnd64LocatorBytes) {
    std::string locator(kEnd64LocatorBytes, '\0');
    file_.read_at(end_offset - kEnd64LocatorBytes, locator.data(), locator.size());
    if (at<uint32_t>(locator, 0) == kEnd64LocatorMark) {
      const auto place = at<uint64_t>(locator, 8);
      if (place > size || size - place < kEnd64Bytes)
        refuse("the zip archive's directory lies outside of it");
      std::string end64(kEnd64Bytes, '\0');
      file_.read_at(place, end64.data(), end64.size());
      if (at<uint32_t>(end64, 0) != kEnd64Mark) refuse("the zip archive's directory is damaged");
      bytes = at<uint64_t>(end64, 40);
      offset = at<uint64_t>(end64, 48);
    }
  }
  if (offset > size || bytes > size - offset) {
    refuse("the zip archive's directory lies outside of it; the file is cut off or damaged");
  }
  if (bytes > kMaxDirectoryBytes) {
    refuse("the zip archive's directory has " + std::to_string(bytes) + " bytes, and at most " +
           std::to_string(kMaxDirectoryBytes) + " are read");
  }
  read_directory(offset, bytes, context);
}

void ZipArchive::read_directory(uint64_t offset, uint64_t bytes, const RunContext& context) {
  std::string directory(bytes, '\0');
  file_.read_at(offset, directory.data(), bytes, context);
  std::string_view rest = directory;
  while (rest.size() >= kEntryBytes && at<uint32_t>(rest, 0) == kEntryMark) {
    context.check();
    const size_t name_bytes = at<uint16_t>(rest, 28), extra_bytes = at<uint16_t>(rest, 30),
                 comment_bytes = at<uint16_t>(rest, 32);
    const size_t whole = kEntryBytes + name_bytes + extra_bytes + comment_bytes;
    if (whole > rest.size()) break;
    Entry entry;
    entry.flags = at<uint16_t>(rest, 8);
    entry.method = at<uint16_t>(rest, 10);
    entry.checksum = at<uint32_t>(rest, 16);
    entry.stored_bytes = at<uint32_t>(rest, 20);
    entry.bytes = at<uint32_t>(rest, 24);
    entry.header_offset = at<uint32_t>(rest, 42);
    std::string_view extra = rest.substr(kEntryBytes + name_bytes, extra_bytes);
    while (extra.size() >= 4) {
      const size_t length = at<uint16_t>(extra, 2);
      if (at<uint16_t>(extra, 0) == 1) {  // the fields that did not fit, in this order
        const std::string_view fields = extra.substr(4, length);
        size_t next = 0;
        for (uint64_t* field : {&entry.bytes, &entry.stored_bytes, &entry.header_offset}) {
          if (*field != kIn64) continue;
          *field = at<uint64_t>(fields, next);
          next += sizeof(uint64_t);
        }
      }
      extra.remove_prefix(std::min(extra.size(), 4 + length));
    }
    entries_.insert_or_assign(std::string(rest.substr(kEntryBytes, name_bytes)), entry);
    rest.remove_prefix(whole);
  }
  if (!rest.empty()) refuse("the zip archive's directory is damaged");
}

std::vector<std::string> ZipArchive::names() const {
  std::vector<std::string> names;
  for (const auto& entry : entries_) names.push_back(entry.first);
  return names;
}

ZipRecord ZipArchive::record(const std::string& name) const {
  const auto found = entries_.find(name);
  if (found == entries_.end()) refuse("its record " + quote_name(name) + " is missing");
  const Entry& entry = found->second;
  if ((entry.flags & 1) != 0) refuse("its record " + quote_name(name) + " is encrypted");
  if (entry.method != 0 || entry.stored_bytes != entry.bytes) {
    refuse("its record " + quote_name(name) + " is compressed, and torch.save compresses nothing; " +
           "unpack the archive and pack it again with zip -0");
  }
  const auto outside = [&] {
    refuse("its record " + quote_name(name) + " claims " + std::to_string(entry.bytes) +
           " bytes, which lie outside of the file");
  };
  std::string local(kLocalBytes, '\0');
  if (entry.header_offset > file_.size() || file_.size() - entry.header_offset < kLocalBytes) outside();
  file_.read_at(entry.header_offset, local.data(), local.size());
  if (at<uint32_t>(local, 0) != kLocalMark)
    refuse("the zip archive is damaged where its record " + quote_name(name) + " should be");
  ZipRecord record;
  record.offset = entry.header_offset + kLocalBytes + at<uint16_t>(local, 26) + at<uint16_t>(local, 28);
  record.bytes = entry.bytes;
  record.checksum = entry.checksum;
  if (record.offset > file_.size() || record.bytes > file_.size() - record.offset) outside();
  return record;
}

std::string ZipArchive::read(const std::string& name, uint64_t limit, const RunContext& context) const {
  const ZipRecord found = record(name);
  if (found.bytes > limit) {
    refuse("its record " + quote_name(name) + " has " + std::to_string(found.bytes) + " bytes, and at most " +
           std::to_string(limit) + " are read");
  }
  std::string bytes(found.bytes, '\0');
  file_.read_at(found.offset, bytes.data(), bytes.size(), context);
  if (found.checksum != 0 && crc32(0, bytes.data(), bytes.size()) != found.checksum)
    refuse("its record " + quote_name(name) + " is damaged: its checksum is wrong");
  return bytes;
}

}  // namespace ltrp
