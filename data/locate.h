// Decides which data set a run uses, and says so.
#pragma once
#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "data/dataset.h"
#include "data/fetch.h"
#include "data/generated.h"

namespace ranvier::data {

/// Opens a data set of any kind: a folder with train/ and test/ (image_folder.h), the binary batches or a folder that
/// holds them, the official archive or a folder that holds it (cifar10.h). Throws std::runtime_error that names the
/// path: not there, of no known kind, or whatever its reader finds wrong.
Splits open(const std::filesystem::path& path);

/// What locate() may use.
struct LocateOptions {
  std::optional<std::filesystem::path> data;  ///< named by the user; nothing else is tried then
  bool environment = true;                    ///< look at $RANVIER_DATA
  bool fetch = true;                          ///< try to fetch the official archive
  /// How to fetch; its `cache` is also the folder searched before. Its connect timeout keeps a machine without a
  /// network waiting only for a moment.
  FetchOptions fetch_options;
  GeneratedOptions generated;  ///< the last resort
};

/// The data set for a run, in this order: `data`, $RANVIER_DATA, the cache folder (archive or binary batches), a fetch,
/// the generated set. `source` and `why` of the result say which it is and what was not there. What is named or found
/// but bad is an error, never passed over; only a fetch that fails leads on to the generated set, and `why` gives the
/// reason.
Splits locate(const LocateOptions& options);

}  // namespace ranvier::data
