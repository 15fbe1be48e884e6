// A labelled set of small images in host memory, with the statistics that normalise it.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace ranvier::data {

/// The two halves of a data set: what a network learns from, and what it is judged by.
enum class Split { train, test };

/// Images and labels of one split. `images` is (size, height, width, channels) in row-major u8, channels are R, G, B.
struct Dataset {
  std::string name;                  ///< what the set is, e.g. "CIFAR-10"
  std::vector<std::string> classes;  ///< class names, indexed by label
  std::vector<uint8_t> images;       ///< (N, H, W, C)
  std::vector<int32_t> labels;       ///< (N), each in [0, classes.size())
  int64_t height = 32, width = 32, channels = 3;
  /// Mean and population standard deviation of the *training* pixels in [0, 1], per channel: normalise both splits by
  /// it.
  std::array<float, 3> mean{}, std{};

  /// Number of images N.
  int64_t size() const { return static_cast<int64_t>(labels.size()); }
  /// Bytes of one image, H * W * C.
  int64_t image_bytes() const { return height * width * channels; }
  /// Pixels of image `index`, (H, W, C).
  std::span<const uint8_t> image(int64_t index) const {
    return {images.data() + index * image_bytes(), static_cast<size_t>(image_bytes())};
  }
  /// Images per class, indexed by label.
  std::vector<int64_t> counts() const;
};

/// Both splits of a data set, where they come from and why this set was taken.
struct Splits {
  Dataset train, test;
  std::string source;  ///< what was read: a path with its kind, or "generated"
  std::string why;     ///< why it was chosen, empty when the caller named it

  const Dataset& operator[](Split split) const { return split == Split::train ? train : test; }
};

/// One line for people: name, source, sizes, classes and why.
std::string describe(const Splits& splits);

/// Mean and population standard deviation per channel of pixels / 255. The sums are integers, so the result depends
/// neither on threads nor on order. `images` holds whole RGB pixels and at least one.
struct PixelStatistics {
  std::array<float, 3> mean, std;
};
PixelStatistics pixel_statistics(std::span<const uint8_t> images);

/// Writes the statistics of the training pixels into both splits.
void set_statistics(Splits& splits);

/// The official class names of CIFAR-10 in label order (Krizhevsky 2009).
const std::vector<std::string>& cifar10_classes();

}  // namespace ranvier::data
