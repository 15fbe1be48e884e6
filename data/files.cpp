// Whole files in and out over POSIX calls, because streams lose the reason of a failure.
#include "data/files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <string>
#include <system_error>

namespace ranvier::data {
namespace {

std::string reason(int code) { return std::generic_category().message(code); }

[[noreturn]] void fail(const char* what, const std::filesystem::path& path, int code) {
  throw std::runtime_error(fmt::format("cannot {} {}: {}", what, path.string(), reason(code)));
}

struct Descriptor {
  int value;
  ~Descriptor() {
    if (value >= 0) ::close(value);
  }
  /// Closes and reports what close says: on some file systems a full disk shows only here.
  int close() {
    const int status = ::close(value) == 0 ? 0 : errno;
    value = -1;
    return status;
  }
};

int write_all(int descriptor, std::span<const uint8_t> bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = ::write(descriptor, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return errno;
    done += static_cast<size_t>(count);
  }
  return ::fsync(descriptor) == 0 || errno == EINVAL || errno == EROFS ? 0 : errno;
}

}  // namespace

std::vector<uint8_t> read_file(const std::filesystem::path& path, int64_t limit) {
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.value < 0) fail("read", path, errno);
  struct stat info {};
  if (::fstat(file.value, &info) != 0) fail("read", path, errno);
  if (!S_ISREG(info.st_mode)) throw std::runtime_error(fmt::format("{}: not a regular file", path.string()));
  if (info.st_size > limit) {
    throw std::runtime_error(
        fmt::format("{}: {} bytes, more than the {} bytes allowed here", path.string(), info.st_size, limit));
  }
  std::vector<uint8_t> bytes(static_cast<size_t>(info.st_size));
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t count = ::read(file.value, bytes.data() + done, bytes.size() - done);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("read", path, errno);
    if (count == 0) throw std::runtime_error(fmt::format("{}: ends at offset {} while reading", path.string(), done));
    done += static_cast<size_t>(count);
  }
  return bytes;
}

void write_file(const std::filesystem::path& path, std::span<const uint8_t> bytes) {
  std::filesystem::path part = path;
  part += ".part";
  int code = 0;
  {
    Descriptor file{::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)};
    if (file.value < 0) fail("write", path, errno);
    code = write_all(file.value, bytes);
    const int closed = file.close();
    if (code == 0) code = closed;
  }
  if (code == 0 && ::rename(part.c_str(), path.c_str()) != 0) code = errno;
  if (code != 0) {
    ::unlink(part.c_str());
    fail("write", path, code);
  }
}

void make_folder(const std::filesystem::path& path) {
  std::error_code code;
  std::filesystem::create_directories(path, code);
  if (code) throw std::runtime_error(fmt::format("cannot create folder {}: {}", path.string(), code.message()));
}

}  // namespace ranvier::data
