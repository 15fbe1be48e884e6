// Seeded permutations and the batches cut from them.
#include "data/batches.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <stdexcept>

#include "kernels/common/philox.h"

namespace ranvier::data {
namespace {

Dataset picked(const Dataset& data, std::span<const int64_t> indices) {
  Dataset result;
  result.name = data.name;
  result.classes = data.classes;
  result.height = data.height;
  result.width = data.width;
  result.channels = data.channels;
  result.mean = data.mean;
  result.std = data.std;
  result.labels.resize(indices.size());
  result.images.resize(indices.size() * static_cast<size_t>(data.image_bytes()));
  gather(data, indices, result.images, result.labels);
  return result;
}

}  // namespace

std::vector<int64_t> permutation(int64_t n, uint64_t seed, std::string_view stream, int64_t step) {
  if (n < 0 || n > int64_t{UINT32_MAX}) throw std::runtime_error(fmt::format("permutation of {} elements", n));
  const kernels::philox::Key key{seed, kernels::philox::stream_hash(stream), static_cast<uint64_t>(step)};
  // Key in the high half, index in the low half: sorting the words sorts by (key, index).
  std::vector<uint64_t> words(static_cast<size_t>(n));
  for (int64_t first = 0; first < n; first += 4) {
    const kernels::philox::Words block = kernels::philox::block_words(key, static_cast<uint32_t>(first / 4));
    for (int64_t i = first; i < std::min(first + 4, n); ++i) {
      words[static_cast<size_t>(i)] = uint64_t{block.word[i - first]} << 32 | static_cast<uint64_t>(i);
    }
  }
  std::sort(words.begin(), words.end());
  std::vector<int64_t> result(words.size());
  std::transform(words.begin(), words.end(), result.begin(),
                 [](uint64_t word) { return static_cast<int64_t>(word & UINT32_MAX); });
  return result;
}

Dataset shuffled(const Dataset& data, uint64_t seed) {
  return picked(data, permutation(data.size(), seed, "shuffle", 0));
}

Dataset limited(const Dataset& data, int64_t count, uint64_t seed) {
  if (count < 1) throw std::runtime_error(fmt::format("limit {}: at least one image is needed", count));
  const std::vector<int64_t> order = permutation(data.size(), seed, "shuffle", 0);
  return picked(data, std::span(order).first(std::min(order.size(), static_cast<size_t>(count))));
}

void gather(const Dataset& data, std::span<const int64_t> indices, std::span<uint8_t> images,
            std::span<int32_t> labels) {
  const size_t bytes = static_cast<size_t>(data.image_bytes());
  if (labels.size() != indices.size() || images.size() != indices.size() * bytes) {
    throw std::runtime_error(fmt::format("gather: {} indices into {} labels and {} bytes of images", indices.size(),
                                         labels.size(), images.size()));
  }
  for (size_t i = 0; i < indices.size(); ++i) {
    if (indices[i] < 0 || indices[i] >= data.size()) {
      throw std::out_of_range(fmt::format("gather: image {} of {}", indices[i], data.size()));
    }
    const std::span<const uint8_t> image = data.image(indices[i]);
    std::copy(image.begin(), image.end(), images.begin() + static_cast<std::ptrdiff_t>(i * bytes));
    labels[i] = data.labels[static_cast<size_t>(indices[i])];
  }
}

Batches::Batches(std::vector<int64_t> order, int64_t n, int64_t batch)
    : order_(std::move(order)), images_(n), batch_(batch), count_(static_cast<int64_t>(order_.size()) / batch) {}

Batches Batches::training(int64_t n, int64_t batch, int64_t epoch, uint64_t seed) {
  if (batch < 1 || batch > n) {
    throw std::runtime_error(fmt::format("batch {}: must lie between 1 and the {} training images", batch, n));
  }
  std::vector<int64_t> order = permutation(n, seed, "batches", epoch);
  order.resize(static_cast<size_t>(n / batch * batch));
  return {std::move(order), n, batch};
}

Batches Batches::evaluation(int64_t n, int64_t batch) {
  if (batch < 1 || n < 1) throw std::runtime_error(fmt::format("batch {}: evaluation of {} images", batch, n));
  std::vector<int64_t> order(static_cast<size_t>((n + batch - 1) / batch * batch), n - 1);
  std::iota(order.begin(), order.begin() + n, int64_t{0});
  return {std::move(order), n, batch};
}

int64_t Batches::valid(int64_t b) const { return std::min(batch_, images_ - b * batch_); }

std::span<const int64_t> Batches::operator[](int64_t b) const {
  if (b < 0 || b >= count_) throw std::out_of_range(fmt::format("batch {} of {}", b, count_));
  return std::span(order_).subspan(static_cast<size_t>(b * batch_), static_cast<size_t>(batch_));
}

void Batches::load(const Dataset& data, int64_t b, Batch& into) const {
  const std::span<const int64_t> indices = (*this)[b];
  if (data.size() != images_) {
    throw std::runtime_error(fmt::format("batches of {} images asked of a set of {}", images_, data.size()));
  }
  into.indices.assign(indices.begin(), indices.end());
  into.labels.resize(indices.size());
  into.images.resize(indices.size() * static_cast<size_t>(data.image_bytes()));
  into.valid = valid(b);
  gather(data, indices, into.images, into.labels);
}

}  // namespace ranvier::data
