// A data set kept as a folder of JPEG and PNG files, one folder per class.
#pragma once
#include <filesystem>

#include "data/dataset.h"
#include "data/image.h"

namespace ranvier::data {

/// Reads `folder/train/<class>/*` and `folder/test/<class>/*`: files ending in .jpg, .jpeg or .png (in any case),
/// decoded to RGB and resized to height x width where they differ. Classes and files are sorted by name (bytewise), so
/// labels and order are the same on every machine; other files and names that begin with a dot are passed over.
/// Decoding runs on all threads. Throws std::runtime_error naming the path: a missing `train` or `test`, fewer than two
/// classes, a class without images, classes of `test` that differ from those of `train`, a file that is no image (of
/// several, the first in order).
Splits image_folder(const std::filesystem::path& folder, int64_t height = 32, int64_t width = 32);

}  // namespace ranvier::data
