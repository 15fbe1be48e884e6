// Temporary file, fsync, rename, fsync of the folder; locks tell a file being written from one left behind.
#include "engine/atomic_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <filesystem>
#include <system_error>

#include "engine/error.h"

namespace ranvier {
namespace {

constexpr const char* suffix = ".partial";

std::string folder_of(const std::string& path) {
  const std::string folder = std::filesystem::path(path).parent_path().string();
  return folder.empty() ? "." : folder;
}

/// Removes the temporary files of `path` that nobody writes any more. What cannot be removed is harmless.
void remove_leftovers(const std::string& path) {
  const std::string stem = std::filesystem::path(path).filename().string() + ".";
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(folder_of(path), ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(stem) || !name.ends_with(suffix)) continue;
    const int leftover = ::open(entry.path().c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (leftover < 0) continue;
    struct stat status {};
    if (::fstat(leftover, &status) == 0 && S_ISREG(status.st_mode) && ::flock(leftover, LOCK_EX | LOCK_NB) == 0)
      ::unlink(entry.path().c_str());
    ::close(leftover);
  }
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  static std::atomic<uint64_t> count{0};
  remove_leftovers(path_);
  for (;;) {
    partial_ = fmt::format("{}.{}-{}{}", path_, ::getpid(), count++, suffix);
    descriptor_ = ::open(partial_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && errno == EEXIST) continue;
    if (descriptor_ < 0) give_up("cannot create a file in its folder", errno);
    struct stat status {};
    // Another writer may have taken the file for a leftover between its creation and its lock.
    if (::flock(descriptor_, LOCK_EX) == 0 && ::fstat(descriptor_, &status) == 0 && status.st_nlink > 0) return;
    ::close(descriptor_);
  }
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::unlink(partial_.c_str());
  ::close(descriptor_);
}

void AtomicFile::give_up(const std::string& doing, int reason) {
  if (descriptor_ >= 0) {
    ::unlink(partial_.c_str());
    ::close(descriptor_);
    descriptor_ = -1;
  }
  fail("{}: {}: {}; an earlier file of that name is unchanged", path_, doing, std::generic_category().message(reason));
}

void AtomicFile::write(std::span<const std::byte> bytes, const std::string& what) {
  while (!bytes.empty()) {
    const ssize_t count = ::write(descriptor_, bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) give_up(fmt::format("cannot write {} at offset {}", what, written_), count < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(count));
    written_ += static_cast<uint64_t>(count);
  }
}

void AtomicFile::replace_start(std::span<const std::byte> bytes) {
  for (off_t at = 0; !bytes.empty();) {
    const ssize_t count = ::pwrite(descriptor_, bytes.data(), bytes.size(), at);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) give_up("cannot write its header", count < 0 ? errno : ENOSPC);
    bytes = bytes.subspan(static_cast<size_t>(count)), at += count;
  }
}

void AtomicFile::commit() {
  if (::fsync(descriptor_) != 0) give_up("cannot bring it to the disk", errno);
  if (::rename(partial_.c_str(), path_.c_str()) != 0) give_up("cannot take the place of the earlier file", errno);
  ::close(descriptor_);
  descriptor_ = -1;
  const int folder = ::open(folder_of(path_).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // Some file systems have no fsync of a folder (EINVAL), and a folder may be writable but not readable (EACCES): the
  // rename itself is in force then, only its survival of a power cut is the file system's business.
  const bool synced = folder < 0 || ::fsync(folder) == 0 || errno == EINVAL;
  const int reason = errno;
  if (folder >= 0) ::close(folder);
  if (!synced)
    fail("{}: written, but its folder cannot be brought to the disk: {}", path_,
         std::generic_category().message(reason));
}

}  // namespace ranvier
