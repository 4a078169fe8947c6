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

// One call never moves more than this, so that cancelling never waits for long.
constexpr uint64_t kMaxTransfer = uint64_t{4} << 20;

std::string reason(int error_number) { return std::strerror(error_number); }

int open_retrying(const char* path, int flags, mode_t mode = 0) {
  int descriptor;
  do {
    descriptor = ::open(path, flags | O_CLOEXEC, mode);
  } while (descriptor < 0 && errno == EINTR);
  return descriptor;
}

// Where writing to `path` ends up.
std::string behind_links(const std::string& path) {
  namespace fs = std::filesystem;
  constexpr int kMaxLinks = 40;
  fs::path place = path;
  std::error_code error;
  for (int i = 0; i < kMaxLinks && fs::is_symlink(place, error); ++i) {
    const fs::path next = fs::read_symlink(place, error);
    if (error) break;
    place = next.is_absolute() ? next : place.parent_path() / next;
  }
  return place.string();
}

const char* kind_of(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder, and a file name is needed";
  if (S_ISFIFO(mode)) return "a named pipe, and not a file that can be replaced as a whole";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device, and not a file that can be replaced as a whole";
  return "a socket, and not a file that can be replaced as a whole";
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

void InputFile::read_at(uint64_t offset, void* destination, uint64_t count, const RunContext& context) const {
  char* out = static_cast<char*>(destination);
  while (count > 0) {
    context.check();
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

AtomicFileWriter::AtomicFileWriter(const std::string& path, IfThere if_there)
    : path_(path), target_(behind_links(path)), if_there_(if_there) {
  const std::filesystem::path target(target_);
  struct stat status {};
  const bool there = ::stat(target_.c_str(), &status) == 0;
  if (target.filename().empty() || (there && !S_ISREG(status.st_mode))) {
    throw Error(codes::kFileWrite,
                "'" + path + "' cannot be written: it is " + kind_of(there ? status.st_mode : S_IFDIR) + ".");
  }
  if (if_there_ == IfThere::kRefuse && ::lstat(path.c_str(), &status) == 0) refuse_existing();
  open_temporary(target.parent_path().string(), target.filename().string());
  if (::ftruncate(descriptor_, 0) != 0) {
    const int error_number = errno;
    ::close(descriptor_);
    descriptor_ = -1;
    fail("its temporary file cannot be emptied", error_number);
  }
}

void AtomicFileWriter::open_temporary(const std::string& folder, const std::string& name) {
  const std::string stem = (std::filesystem::path(folder) / ("." + name)).string();
  for (;;) {
    temporary_ = stem + ".tmp";
    descriptor_ = open_retrying(temporary_.c_str(), O_WRONLY | O_CREAT | O_NOFOLLOW, 0666);
    if (descriptor_ < 0) fail("its temporary file cannot be created", errno);
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
      const int error_number = errno;
      ::close(descriptor_);
      descriptor_ = -1;
      if (error_number == EINTR) continue;
      if (error_number == EWOULDBLOCK) {
        throw Error(codes::kFileWrite, "'" + path_ + "' is being written by another process at this moment.");
      }
      break;
    }
    // Another writer may have renamed the file between open and lock: then this descriptor is the finished
    // file.
    struct stat mine {
    }, named{};
    if (::fstat(descriptor_, &mine) == 0 && ::stat(temporary_.c_str(), &named) == 0 &&
        mine.st_ino == named.st_ino && mine.st_dev == named.st_dev) {
      return;
    }
    ::close(descriptor_);
    descriptor_ = -1;
  }
  // A file system without locks (some network ones): names of one's own keep writers apart instead.
  ::unlink(temporary_.c_str());
  for (int i = 0; descriptor_ < 0; ++i) {
    temporary_ = stem + "." + std::to_string(::getpid()) + "-" + std::to_string(i) + ".tmp";
    descriptor_ = open_retrying(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0666);
    if (descriptor_ < 0 && errno != EEXIST) fail("its temporary file cannot be created", errno);
  }
}

AtomicFileWriter::~AtomicFileWriter() {
  if (descriptor_ < 0) return;
  ::unlink(temporary_.c_str());
  ::close(descriptor_);
}

void AtomicFileWriter::write(const void* data, uint64_t count, const RunContext& context) {
  const char* bytes = static_cast<const char*>(data);
  while (count > 0) {
    context.check();
    const ssize_t put = ::write(descriptor_, bytes, std::min(count, kMaxTransfer));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) fail("writing failed", errno);
    bytes += put;
    count -= static_cast<uint64_t>(put);
  }
}

void AtomicFileWriter::commit() {
  if (::fsync(descriptor_) != 0) fail("flushing it to the disk failed", errno);
  give_name();
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

void AtomicFileWriter::give_name() {
  if (if_there_ == IfThere::kRefuse) {
    // A link, unlike a rename, never replaces what another writer put there meanwhile.
    if (::link(temporary_.c_str(), target_.c_str()) == 0) {
      ::unlink(temporary_.c_str());
      return;
    }
    struct stat status {};
    if (errno == EEXIST || ::lstat(target_.c_str(), &status) == 0) refuse_existing();
    // A file system without hard links: nothing was there a moment ago, and that has to do.
  }
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail("renaming its temporary file failed", errno);
}

void AtomicFileWriter::refuse_existing() const {
  throw Error(codes::kFileExists, "'" + path_ + "' exists already, and overwrite is not set.");
}

void AtomicFileWriter::fail(const char* what, int error_number) const {
  throw Error(codes::kFileWrite,
              "'" + path_ + "' cannot be written: " + what + " (" + reason(error_number) + ").");
}

}  // namespace ltrp
