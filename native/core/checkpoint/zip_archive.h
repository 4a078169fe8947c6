// The directory of a zip archive as torch.save writes it: records that are stored as they are, found by name.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "core/checkpoint/file_io.h"
#include "core/run_context.h"

namespace ltrp {

struct ZipRecord {
  uint64_t offset = 0;  // of the bytes in the file
  uint64_t bytes = 0;
  uint32_t checksum = 0;  // CRC-32 of the bytes; 0 where the writer left it out
};

class ZipArchive {
 public:
  // Reads the directory alone. Error(kFileNotFound | kFileRead | kCheckpointFormat): not an archive, cut off,
  // a directory beyond 16 MiB or out of the file's bounds.
  explicit ZipArchive(const std::string& path, const RunContext& context = {});

  const InputFile& file() const { return file_; }
  // Names of all records, whatever their kind.
  std::vector<std::string> names() const;
  bool has(const std::string& name) const { return entries_.contains(name); }
  // Error(kCheckpointFormat) when it is absent, compressed, encrypted or outside of the file.
  ZipRecord record(const std::string& name) const;
  // A small record's bytes, its checksum checked; Error(kCheckpointFormat) beyond `limit` bytes too.
  std::string read(const std::string& name, uint64_t limit, const RunContext& context = {}) const;

 private:
  struct Entry {
    uint64_t header_offset = 0, stored_bytes = 0, bytes = 0;
    uint32_t checksum = 0;
    uint16_t method = 0, flags = 0;
  };
  void read_directory(uint64_t offset, uint64_t bytes, const RunContext& context);
  [[noreturn]] void refuse(const std::string& what) const;

  InputFile file_;
  std::map<std::string, Entry> entries_;
};

}  // namespace ltrp
