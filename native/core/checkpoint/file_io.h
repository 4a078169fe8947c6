// Files as the checkpoints need them: read at an offset, written whole or not at all.
#pragma once

#include <cstdint>
#include <string>

#include "core/error.h"
#include "core/run_context.h"

namespace ltrp {

namespace codes {
inline constexpr const char* kFileExists = "ERR_LTRP_FILE_EXISTS";
}  // namespace codes

// A regular file open for reading. Error(kFileNotFound | kFileRead).
class InputFile {
 public:
  explicit InputFile(const std::string& path);
  ~InputFile();
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // bytes, when it was opened
  // Reads exactly `count` bytes from `offset`; Error(kFileRead) when the file ends before or the disk fails,
  // Error(kCancelled) between pieces of some megabytes.
  void read_at(uint64_t offset, void* destination, uint64_t count, const RunContext& context = {}) const;

 private:
  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

// A whole small text file. Error(kFileNotFound | kFileRead), also when it is larger than `max_bytes`.
std::string read_text_file(const std::string& path, uint64_t max_bytes);

// What a writer does about a file that is there already.
enum class IfThere { kReplace, kRefuse };

// Writes a file so that readers see the old content or the new one and never a part: bytes go to a temporary
// file in the same folder (".NAME.tmp", locked against a second writer), commit() flushes it to the disk and
// renames it. Without commit() the temporary file is removed. One left behind by a killed process is reused
// by the next write. Symbolic links stay and their targets are written, also targets that are not there yet;
// pipes, devices and folders are refused. With kRefuse a file that is there, at the beginning or at commit(),
// is Error(kFileExists) and stays as it was. Error(kFileWrite) names `path`.
class AtomicFileWriter {
 public:
  explicit AtomicFileWriter(const std::string& path, IfThere if_there = IfThere::kReplace);
  ~AtomicFileWriter();
  AtomicFileWriter(const AtomicFileWriter&) = delete;
  AtomicFileWriter& operator=(const AtomicFileWriter&) = delete;

  // Error(kCancelled) between pieces.
  void write(const void* data, uint64_t count, const RunContext& context = {});
  void commit();

 private:
  void open_temporary(const std::string& folder, const std::string& name);
  void give_name();
  [[noreturn]] void refuse_existing() const;
  [[noreturn]] void fail(const char* what, int error_number) const;

  std::string path_;    // as the caller named it, for messages
  std::string target_;  // symbolic links resolved
  std::string temporary_;
  IfThere if_there_;
  int descriptor_ = -1;
};

}  // namespace ltrp
