#include "core/checkpoint/file_io.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>

#include "core/error.h"

namespace ltrp {
namespace {

// One call never moves more than this: some systems refuse counts above 2 GiB.
constexpr uint64_t kMaxTransfer = uint64_t{1} << 30;

std::string reason(int error_number) { return std::strerror(error_number); }

int open_retrying(const char* path, int flags, mode_t mode = 0) {
  int descriptor;
  do {
    descriptor = ::open(path, flags | O_CLOEXEC, mode);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

}  // namespace

InputFile::InputFile(const std::string& path) : path_(path) {
  // O_NONBLOCK: opening a named pipe must not wait for a writer.
  descriptor_ = open_retrying(path.c_str(), O_RDONLY | O_NONBLOCK);
  if (descriptor_ < 0) {
    const int error_number = errno;
    if (error_number == ENOENT || error_number == ENOTDIR) {
      throw Error(codes::kFileNotFound, "There is no file '" + path + "'.");
    }
    throw Error(codes::kFileRead,
                "'" + path + "' cannot be opened for reading: " + reason(error_number) + ".");
  }
  struct stat status {};
  const bool known = ::fstat(descriptor_, &status) == 0;
  if (!known || !S_ISREG(status.st_mode)) {
    ::close(descriptor_);
    throw Error(codes::kFileRead, "'" + path + "' is not a regular file.");
  }
  size_ = static_cast<uint64_t>(status.st_size);
}

InputFile::~InputFile() { ::close(descriptor_); }

void InputFile::read_at(uint64_t offset, void* destination, uint64_t count) const {
  char* out = static_cast<char*>(destination);
  while (count > 0) {
    const ssize_t got = ::pread(descriptor_, out, std::min(count, kMaxTransfer), static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) throw Error(codes::kFileRead, "Reading '" + path_ + "' failed: " + reason(errno) + ".");
    if (got == 0) throw Error(codes::kFileRead, "'" + path_ + "' ends in the middle of its data.");
    out += got;
    offset += static_cast<uint64_t>(got);
    count -= static_cast<uint64_t>(got);
  }
}

std::string read_text_file(const std::string& path, uint64_t max_bytes) {
  const InputFile file(path);
  if (file.size() > max_bytes) {
    throw Error(codes::kFileRead, "'" + path + "' has " + std::to_string(file.size()) + " bytes; at most " +
                                      std::to_string(max_bytes) + " are expected of such a file.");
  }
  std::string text(file.size(), '\0');
  file.read_at(0, text.data(), text.size());
  return text;
}

AtomicFileWriter::AtomicFileWriter(const std::string& path) : path_(path), target_(path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  if (fs::is_symlink(path, ignored)) {
    const fs::path resolved = fs::canonical(path, ignored);
    if (!ignored) target_ = resolved.string();
  }
  const fs::path target(target_);
  if (target.filename().empty() || fs::is_directory(target, ignored)) {
    throw Error(codes::kFileWrite,
                "'" + path + "' cannot be written: it is a folder, and a file name is needed.");
  }
  std::string hidden_name = ".";
  hidden_name += target.filename().string();
  hidden_name += ".tmp";
  temporary_ = (target.parent_path() / hidden_name).string();
  for (;;) {
    descriptor_ = open_retrying(temporary_.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW, 0666);
    if (descriptor_ < 0) fail("its temporary file cannot be created", errno);
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      ::close(descriptor_);
      descriptor_ = -1;
      throw Error(codes::kFileWrite, "'" + path + "' is being written by another process at this moment.");
    }
    // Another writer may have renamed the file between open and lock: then this descriptor is the finished
    // file.
    struct stat mine {
    }, named{};
    if (::fstat(descriptor_, &mine) == 0 && ::stat(temporary_.c_str(), &named) == 0 &&
        mine.st_ino == named.st_ino && mine.st_dev == named.st_dev) {
      break;
    }
    ::close(descriptor_);
    descriptor_ = -1;
  }
  if (::ftruncate(descriptor_, 0) != 0) {
    const int error_number = errno;
    ::close(descriptor_);
    descriptor_ = -1;
    fail("its temporary file cannot be emptied", error_number);
  }
}

AtomicFileWriter::~AtomicFileWriter() {
  if (descriptor_ < 0) return;
  ::unlink(temporary_.c_str());
  ::close(descriptor_);
}

void AtomicFileWriter::write(const void* data, uint64_t count) {
  const char* bytes = static_cast<const char*>(data);
  while (count > 0) {
    const ssize_t put = ::write(descriptor_, bytes, std::min(count, kMaxTransfer));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail("writing failed", errno);
    bytes += put;
    count -= static_cast<uint64_t>(put);
  }
}

void AtomicFileWriter::commit() {
  if (::fsync(descriptor_) != 0) fail("flushing it to the disk failed", errno);
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("renaming its temporary file failed", errno);
  ::close(descriptor_);
  descriptor_ = -1;
  // The rename itself is durable only once the folder is; file systems that cannot sync a folder are left
  // alone.
  std::string folder = std::filesystem::path(target_).parent_path().string();
  const int folder_descriptor = open_retrying(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY);
  if (folder_descriptor >= 0) {
    ::fsync(folder_descriptor);
    ::close(folder_descriptor);
  }
}

void AtomicFileWriter::fail(const char* what, int error_number) const {
  throw Error(codes::kFileWrite,
              "'" + path_ + "' cannot be written: " + what + " (" + reason(error_number) + ").");
}

}  // namespace ltrp
