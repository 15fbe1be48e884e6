// A file that is either wholly written or not there: what replaces an earlier file does so in one step.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace ranvier {

/// Writes beside `path` and takes its place at `commit`. Until then, and after any failure or a killed process, the
/// earlier file of that name is untouched. Temporary files "<path>.<process>-<count>.partial" that killed processes
/// left behind are removed by the next writer of the same path; those still being written hold a lock and stay.
class AtomicFile {
 public:
  /// Throws Error naming the path and the reason where the folder is missing or cannot be written.
  explicit AtomicFile(std::string path);
  /// Without a commit, removes what was written.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  /// Appends bytes; throws Error on a full disk or any other failure. `what` says in that message what was written.
  void write(std::span<const std::byte> bytes, const std::string& what);
  /// Writes over the first bytes again: a header that counts what came after it.
  void replace_start(std::span<const std::byte> bytes);
  /// Brings the bytes to the disk, renames, and brings the folder's entry to the disk.
  void commit();

 private:
  [[noreturn]] void give_up(const std::string& doing, int reason);

  std::string path_, partial_;
  int descriptor_ = -1;
  uint64_t written_ = 0;
};

}  // namespace ranvier
