// Reads a folder of images in parallel into one array whose order depends on names only.
#include "data/image_folder.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <stdexcept>

#include "data/files.h"
#include "kernels/common/parallel.h"

namespace ranvier::data {
namespace {

namespace fs = std::filesystem;

bool is_image_name(const fs::path& path) {
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return ending == ".jpg" || ending == ".jpeg" || ending == ".png";
}

// Sorted names in `folder` for which `keep` holds; hidden ones (of editors and file managers) are passed over.
template <class Keep>
std::vector<std::string> sorted_names(const fs::path& folder, Keep keep) {
  std::error_code code;
  std::vector<std::string> names;
  for (fs::directory_iterator it(folder, code), end; !code && it != end; it.increment(code)) {
    const std::string name = it->path().filename().string();
    if (!name.starts_with('.') && keep(*it)) names.push_back(name);
  }
  if (code) throw std::runtime_error(fmt::format("cannot read folder {}: {}", folder.string(), code.message()));
  std::sort(names.begin(), names.end());
  return names;
}

std::vector<std::string> class_names(const fs::path& folder, std::string_view split) {
  std::error_code code;
  if (!fs::is_directory(folder / split, code)) {
    throw std::runtime_error(
        fmt::format("{}: no folder '{}' in it (an image folder holds train/<class>/*.jpg or *.png "
                    "and test/<class>/...)",
                    folder.string(), split));
  }
  return sorted_names(folder / split, [](const fs::directory_entry& entry) {
    std::error_code ignored;
    return entry.is_directory(ignored);
  });
}

void check_same_classes(const fs::path& folder, const std::vector<std::string>& train,
                        const std::vector<std::string>& test) {
  for (const std::string& name : train) {
    if (!std::binary_search(test.begin(), test.end(), name)) {
      throw std::runtime_error(
          fmt::format("{}: class '{}' of the training images is missing", (folder / "test").string(), name));
    }
  }
  for (const std::string& name : test) {
    if (!std::binary_search(train.begin(), train.end(), name)) {
      throw std::runtime_error(
          fmt::format("{}: class '{}' has no training images", (folder / "test" / name).string(), name));
    }
  }
}

// Decodes every file into its place of `into.images`; the first failure in file order is the one reported.
void decode_all(const std::vector<fs::path>& files, Dataset& into) {
  const int64_t count = static_cast<int64_t>(files.size());
  const int64_t shards = kernels::shard_count(count, 64, 1024);
  std::vector<std::string> errors(static_cast<size_t>(shards));
  into.images.resize(files.size() * static_cast<size_t>(into.image_bytes()));
  kernels::parallel_for(shards, [&](int64_t shard) {
    const int64_t end = kernels::shard_begin(count, shards, shard + 1);
    for (int64_t i = kernels::shard_begin(count, shards, shard); i < end; ++i) {
      try {
        Image image = load_image(files[static_cast<size_t>(i)]);
        if (image.height != into.height || image.width != into.width) image = resize(image, into.height, into.width);
        std::copy(image.pixels.begin(), image.pixels.end(), into.images.begin() + i * into.image_bytes());
      } catch (const std::exception& error) {
        errors[static_cast<size_t>(shard)] = error.what();
        return;
      }
    }
  });
  for (const std::string& error : errors) {
    if (!error.empty()) throw std::runtime_error(error);
  }
}

bool is_jpeg(const fs::path& path) { return std::tolower(path.extension().string()[1]) == 'j'; }

/// The images of a split; its name is "JPEG" where all of them are.
Dataset read_split(const fs::path& folder, const std::vector<std::string>& classes, int64_t height, int64_t width) {
  Dataset result;
  result.classes = classes;
  result.height = height;
  result.width = width;
  std::vector<fs::path> files;
  for (size_t label = 0; label < classes.size(); ++label) {
    const fs::path class_folder = folder / classes[label];
    const std::vector<std::string> names = sorted_names(class_folder, [](const fs::directory_entry& entry) {
      std::error_code ignored;
      return is_image_name(entry.path()) && !entry.is_directory(ignored);
    });
    if (names.empty()) {
      throw std::runtime_error(fmt::format("{}: class '{}' is empty: no .jpg, .jpeg or .png file in it",
                                           class_folder.string(), classes[label]));
    }
    for (const std::string& name : names) files.push_back(class_folder / name);
    result.labels.insert(result.labels.end(), names.size(), static_cast<int32_t>(label));
  }
  decode_all(files, result);
  if (std::all_of(files.begin(), files.end(), is_jpeg)) result.name = "JPEG";
  return result;
}

}  // namespace

Splits image_folder(const fs::path& folder, int64_t height, int64_t width) {
  const std::vector<std::string> classes = class_names(folder, "train");
  if (classes.size() < 2) {
    throw std::runtime_error(
        fmt::format("{}: {} class folders, at least 2 are needed", (folder / "train").string(), classes.size()));
  }
  check_same_classes(folder, classes, class_names(folder, "test"));
  Splits splits;
  splits.train = read_split(folder / "train", classes, height, width);
  splits.test = read_split(folder / "test", classes, height, width);
  const fs::path base = fs::absolute(folder / "train").lexically_normal().parent_path().filename();
  const bool official = classes == cifar10_classes();  // whose own images are not compressed
  const bool jpeg = splits.train.name == "JPEG" && splits.test.name == "JPEG";
  splits.train.name = splits.test.name = (official ? "CIFAR-10" : base.string()) +
                                         (official && jpeg ? " (image folder, JPEG re-encoding)" : " (image folder)");
  splits.source = folder.string();
  set_statistics(splits);
  return splits;
}

}  // namespace ranvier::data
