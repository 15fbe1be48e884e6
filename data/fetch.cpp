// Downloads with the curl program; everything a server can get wrong ends in one clear line and no damaged file.
#include "data/fetch.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <stdexcept>
#include <system_error>

#include "data/cifar10.h"
#include "data/files.h"
#include "data/md5.h"
#include "data/process.h"

namespace ranvier::data {
namespace {

namespace fs = std::filesystem;

// Exit statuses of curl (curl(1), "EXIT CODES") that need more than its own message.
constexpr int curl_http_error = 22, curl_write_error = 23, curl_no_ranges = 33, curl_interrupted = 128 + 2;

// Held while the cache is written to, so that two downloads never share one part file.
class CacheLock {
 public:
  explicit CacheLock(const fs::path& folder) : descriptor_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (descriptor_ < 0) {
      throw std::runtime_error(
          fmt::format("cannot open {}: {}", folder.string(), std::generic_category().message(errno)));
    }
    if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      ::close(descriptor_);
      throw std::runtime_error(fmt::format("{}: another fetch is writing here", folder.string()));
    }
  }
  ~CacheLock() { ::close(descriptor_); }
  CacheLock(const CacheLock&) = delete;
  CacheLock& operator=(const CacheLock&) = delete;

 private:
  int descriptor_;
};

int64_t size_or_zero(const fs::path& path) {
  std::error_code code;
  const auto size = fs::file_size(path, code);
  return code ? 0 : static_cast<int64_t>(size);
}

// Why a file is not the expected archive; empty if it is.
std::string mismatch(const fs::path& path, const FetchOptions& options) {
  const int64_t size = size_or_zero(path);
  if (size != options.bytes) return fmt::format("{} bytes, expected {}", size, options.bytes);
  const std::string digest = md5_file(path);
  if (digest != options.md5) return fmt::format("md5 {}, expected {}", digest, options.md5);
  return {};
}

void put_in_place(const fs::path& part, const fs::path& archive) {
  std::error_code code;
  fs::rename(part, archive, code);
  if (code) {
    throw std::runtime_error(
        fmt::format("cannot rename {} to {}: {}", part.string(), archive.string(), code.message()));
  }
}

ProcessResult curl(const std::string& url, const fs::path& part, const FetchOptions& options) {
  const bool bar = options.progress && ::isatty(STDERR_FILENO);
  // -q: a user's ~/.curlrc does not change what this does.
  std::vector<std::string> arguments = {"curl", "-q", "--fail", "--location", "--proto", "=http,https"};
  arguments.insert(arguments.end(), {"--connect-timeout", std::to_string(options.connect_timeout_s), "--speed-limit",
                                     "1", "--speed-time", std::to_string(options.stall_timeout_s)});
  arguments.push_back(bar ? "--progress-bar" : "--silent");
  // A server that announces more than expected is refused instead of filling the disk.
  arguments.insert(arguments.end(), {"--max-filesize", std::to_string(options.bytes), "--continue-at", "-"});
  arguments.insert(arguments.end(), {"--write-out", "%{http_code} %{errormsg}", "--output", part.string()});
  arguments.insert(arguments.end(), {"--url", url});
  return run_program(arguments, bar);
}

[[noreturn]] void report(const std::string& url, const ProcessResult& result, const fs::path& part) {
  const size_t blank = std::min(result.output.find(' '), result.output.size());
  const std::string http = result.output.substr(0, blank);
  std::string reason = blank < result.output.size() ? result.output.substr(blank + 1) : "";
  if (result.status == curl_http_error) reason = fmt::format("the server answers HTTP {}", http);
  if (result.status == curl_write_error) reason = fmt::format("cannot write {}: {}", part.string(), reason);
  if (result.status == curl_interrupted) reason = "interrupted";
  if (reason.empty()) reason = fmt::format("curl exits with status {}", result.status);
  const int64_t have = size_or_zero(part);
  if (have > 0) reason += fmt::format("; {} bytes are kept in {}, fetch again to resume", have, part.string());
  throw std::runtime_error(fmt::format("cannot fetch {}: {}", url, reason));
}

void download(const std::string& url, const fs::path& archive, const FetchOptions& options) {
  fs::path part = archive;
  part += ".part";
  std::error_code ignored;
  if (size_or_zero(part) > options.bytes) fs::remove(part, ignored);
  const int64_t before = size_or_zero(part);
  options.log(before > 0 ? fmt::format("resuming {} at byte {} of {}", url, before, options.bytes)
                         : fmt::format("fetching {} ({} bytes)", url, options.bytes));
  if (before < options.bytes) {
    ProcessResult result = curl(url, part, options);
    if (result.status == curl_no_ranges) {
      options.log(fmt::format("the server cannot resume: deleted {}, starting over", part.string()));
      fs::remove(part, ignored);
      result = curl(url, part, options);
    }
    if (result.status != 0) report(url, result, part);
  }
  const std::string wrong = mismatch(part, options);
  if (!wrong.empty()) {
    fs::remove(part, ignored);
    throw std::runtime_error(fmt::format("cannot fetch {}: {}{}; deleted {}", url, wrong,
                                         before > 0 ? " after resuming" : "", part.string()));
  }
  put_in_place(part, archive);
}

void copy_archive(const fs::path& from, const fs::path& archive, const FetchOptions& options) {
  std::error_code code;
  if (const std::string wrong = mismatch(from, options); !wrong.empty()) {
    throw std::runtime_error(fmt::format("{}: not the official archive: {}", from.string(), wrong));
  }
  if (fs::equivalent(from, archive, code)) return;
  options.log(fmt::format("copying {}", from.string()));
  write_file(archive, read_file(from, options.bytes));
}

// The folder appears whole: an earlier one is moved aside until the new one stands.
void copy_batches(const fs::path& from, const fs::path& to) {
  fs::path part = to, old = to;
  part += ".part";
  old += ".old";
  const Splits splits = cifar10(from);
  fs::remove_all(part);
  write_cifar10(part, splits);
  std::error_code none;
  fs::remove_all(old);
  fs::rename(to, old, none);
  put_in_place(part, to);
  fs::remove_all(old, none);
}

fs::path from_path(const fs::path& from, const fs::path& cache, const FetchOptions& options) {
  std::error_code code;
  const fs::path archive = cache / cifar10_archive_name;
  if (!fs::exists(from, code)) {
    throw std::runtime_error(fmt::format("{}: neither a file, a folder nor an http address", from.string()));
  }
  if (!fs::is_directory(from, code)) {
    copy_archive(from, archive, options);
    return archive;
  }
  if (fs::exists(from / cifar10_archive_name, code)) {
    copy_archive(from / cifar10_archive_name, archive, options);
    return archive;
  }
  if (cifar10_batches_folder(from).empty()) {
    throw std::runtime_error(
        fmt::format("{}: holds neither {} nor data_batch_1.bin (an image folder is imported, not "
                    "fetched)",
                    from.string(), cifar10_archive_name));
  }
  const fs::path to = cache / cifar10_folder_name;
  if (fs::equivalent(cifar10_batches_folder(from), to, code)) return to;
  options.log(fmt::format("copying the batches of {}", from.string()));
  copy_batches(from, to);
  return to;
}

bool is_url(const std::string& from) { return from.find("://") != std::string::npos; }

}  // namespace

fs::path cache_folder() {
  if (const char* base = std::getenv("XDG_CACHE_HOME"); base && *base == '/') return fs::path(base) / "ranvier";
  const char* home = std::getenv("HOME");
  if (!home || !*home) throw std::runtime_error("no cache folder: neither XDG_CACHE_HOME nor HOME is set");
  return fs::path(home) / ".cache" / "ranvier";
}

fs::path fetch(const FetchOptions& options) {
  const fs::path cache = options.cache.empty() ? cache_folder() : options.cache;
  make_folder(cache);
  const CacheLock lock(cache);
  if (!is_url(options.from)) return from_path(options.from, cache, options);
  const fs::path archive = cache / cifar10_archive_name;
  if (mismatch(archive, options).empty()) {
    options.log(fmt::format("{} is there already, and right", archive.string()));
    return archive;
  }
  download(options.from, archive, options);
  return archive;
}

}  // namespace ranvier::data
