// The search order for data, and the sentence that explains its result.
#include "data/locate.h"

#include <fmt/format.h>

#include <cstdlib>
#include <stdexcept>

#include "data/cifar10.h"
#include "data/image_folder.h"

namespace ranvier::data {
namespace {

namespace fs = std::filesystem;

Splits opened(const fs::path& path, std::string why) {
  Splits splits = open(path);
  splits.why = std::move(why);
  return splits;
}

// What the cache holds; empty if nothing. The batches come first: they need no unpacking.
fs::path in_cache(const fs::path& cache) {
  std::error_code code;
  if (const fs::path batches = cifar10_batches_folder(cache); !batches.empty()) return batches;
  if (fs::exists(cache / cifar10_archive_name, code)) return cache / cifar10_archive_name;
  return {};
}

// The archive, or an empty path and the reason added to `missing`.
fs::path try_fetch(const FetchOptions& options, std::string& missing) {
  try {
    return fetch(options);
  } catch (const std::exception& error) {
    missing += fmt::format(", {}", error.what());
    return {};
  }
}

}  // namespace

Splits open(const fs::path& path) {
  std::error_code code;
  if (!fs::exists(path, code)) throw std::runtime_error(fmt::format("{}: no such file or folder", path.string()));
  if (!fs::is_directory(path, code)) return cifar10(path);
  if (!cifar10_batches_folder(path).empty()) return cifar10(path);
  if (fs::is_directory(path / "train", code) || fs::is_directory(path / "test", code)) return image_folder(path);
  if (fs::exists(path / cifar10_archive_name, code)) return cifar10(path / cifar10_archive_name);
  throw std::runtime_error(
      fmt::format("{}: no data set: neither train/ and test/ with a folder per class, nor "
                  "data_batch_1.bin, nor {}",
                  path.string(), cifar10_archive_name));
}

Splits locate(const LocateOptions& options) {
  if (options.data) return opened(*options.data, "named by --data");
  std::string missing = "no --data";
  if (options.environment) {
    const char* named = std::getenv("RANVIER_DATA");
    if (named && *named) return opened(named, "named by RANVIER_DATA");
    missing += ", RANVIER_DATA not set";
  }
  FetchOptions fetching = options.fetch_options;
  if (fetching.cache.empty()) fetching.cache = cache_folder();
  if (const fs::path found = in_cache(fetching.cache); !found.empty()) {
    return opened(found, missing + ", found in the cache folder");
  }
  missing += fmt::format(", nothing in {}", fetching.cache.string());
  if (!options.fetch) {
    missing += ", fetching is off";
  } else if (const fs::path fetched = try_fetch(fetching, missing); !fetched.empty()) {
    return opened(fetched, missing + ", fetched now");
  }
  Splits splits = generated(options.generated);
  splits.why = missing;
  return splits;
}

}  // namespace ranvier::data
