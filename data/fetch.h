// Brings the official CIFAR-10 archive into the cache folder: downloaded, resumed, checked, and only then put in place.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>

namespace ranvier::data {

/// The official archive (https://www.cs.toronto.edu/~kriz/cifar.html).
inline constexpr const char* cifar10_url = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz";
inline constexpr int64_t cifar10_archive_bytes = 170'052'171;
inline constexpr const char* cifar10_archive_md5 = "c32a1d4ab5d03f1284b67883e8d87530";

/// The folder that downloads go to: `ranvier` under $XDG_CACHE_HOME, or under ~/.cache. Throws if neither
/// $XDG_CACHE_HOME nor $HOME is set.
std::filesystem::path cache_folder();

/// What to fetch, and what it must be.
struct FetchOptions {
  /// An http or https address; a file, which must be the official archive; or a folder that holds the archive or the
  /// binary batches.
  std::string from = cifar10_url;
  /// Where the archive goes, as `cifar-10-binary.tar.gz`. Empty: cache_folder().
  std::filesystem::path cache;
  /// Size in bytes and md5 of the archive; what differs is not kept.
  int64_t bytes = cifar10_archive_bytes;
  std::string md5 = cifar10_archive_md5;
  int connect_timeout_s = 5;  ///< give up when no connection stands by then
  int stall_timeout_s = 30;   ///< give up when nothing arrives for so long
  bool progress = true;       ///< let curl draw its bar, if standard error is a terminal
  /// Receives one line at a time about what is being done.
  std::function<void(const std::string&)> log = [](const std::string&) {};
};

/// Fetches into the cache and returns the path to open: the archive, or the folder of binary batches when `from` is
/// one. A good archive that is there already is returned untouched, as long as `from` is an address. A download goes to
/// `cifar-10-binary.tar.gz.part`: an interrupted one stays there and the next call resumes it; one that is whole but
/// wrong is deleted. An earlier good file is replaced only by rename, after size and md5 are right. Throws
/// std::runtime_error with one line: no curl, no connection, an HTTP error, a short or wrong file, a full disk.
std::filesystem::path fetch(const FetchOptions& options);

}  // namespace ranvier::data
