// The order in which images are seen: permutations and batches that depend on seed and epoch only.
#pragma once
#include <cstdint>
#include <iterator>
#include <span>
#include <string_view>
#include <vector>

#include "data/dataset.h"

namespace ranvier::data {

/// A permutation of 0..n-1: the indices sorted by (key, index), where the key of element e is the 32-bit Philox4x32-10
/// draw of (seed, FNV-1a of `stream`, step, e). The same on every machine and backend. n must be below 2^32.
std::vector<int64_t> permutation(int64_t n, uint64_t seed, std::string_view stream, int64_t step);

/// The images of `data` in the order of permutation(size, seed, "shuffle", 0). Statistics are kept.
Dataset shuffled(const Dataset& data, uint64_t seed);

/// The first `count` images of shuffled(data, seed), all of them if there are fewer. Statistics are kept: they are
/// those of the whole training set. Throws if count < 1.
Dataset limited(const Dataset& data, int64_t count, uint64_t seed);

/// Copies images and labels at `indices` into (indices.size(), H, W, C) and (indices.size()).
void gather(const Dataset& data, std::span<const int64_t> indices, std::span<uint8_t> images,
            std::span<int32_t> labels);

/// One batch in host memory. Beyond `valid` images it is padding: copies of the last image.
struct Batch {
  std::vector<uint8_t> images;   ///< (batch, H, W, C)
  std::vector<int32_t> labels;   ///< (batch)
  std::vector<int64_t> indices;  ///< (batch), places in the data set
  int64_t valid = 0;             ///< images that count
};

/// The batches of one pass over n images, as indices. Batch b can be asked for at any time, so a resumed run starts in
/// the middle of an epoch by starting at another b.
class Batches {
 public:
  /// Training: the order of permutation(n, seed, "batches", epoch); a last partial batch is dropped.
  /// Throws when `batch` is not in [1, n].
  static Batches training(int64_t n, int64_t batch, int64_t epoch, uint64_t seed);
  /// Evaluation: images in their own order; the last batch is padded by its last image.
  static Batches evaluation(int64_t n, int64_t batch);

  /// The batches' indices one after the other.
  std::span<const int64_t> order() const { return order_; }
  /// Number of batches.
  int64_t size() const { return count_; }
  int64_t batch_size() const { return batch_; }
  /// Images of batch `b` that count: batch_size(), less in the last batch of an evaluation.
  int64_t valid(int64_t b) const;
  /// The batch_size() indices of batch `b`. Throws std::out_of_range.
  std::span<const int64_t> operator[](int64_t b) const;
  /// Batch `b` gathered from `data`, into `into` (its memory is used again). `data` must have the n images.
  void load(const Dataset& data, int64_t b, Batch& into) const;

 private:
  Batches(std::vector<int64_t> order, int64_t n, int64_t batch);

  std::vector<int64_t> order_;  // count_ * batch_ indices
  int64_t images_, batch_, count_;
};

/// Batches gathered one after the other, for `for (const Batch& batch : training_batches(data, 64, epoch, seed))`. The
/// batch is one object whose memory is used again; the data set must outlive the loop.
class BatchRange {
 public:
  BatchRange(const Dataset& data, Batches batches) : data_(&data), batches_(std::move(batches)) {}

  class Iterator {
   public:
    Iterator(BatchRange& range, int64_t at) : range_(&range), at_(at) {}
    const Batch& operator*() const {
      range_->batches_.load(*range_->data_, at_, range_->batch_);
      return range_->batch_;
    }
    Iterator& operator++() {
      ++at_;
      return *this;
    }
    bool operator!=(const Iterator& other) const { return at_ != other.at_; }

   private:
    BatchRange* range_;
    int64_t at_;
  };
  Iterator begin() { return {*this, 0}; }
  Iterator end() { return {*this, batches_.size()}; }

 private:
  const Dataset* data_;
  Batches batches_;
  Batch batch_;
};

/// The batches of one epoch of training, see Batches::training.
inline BatchRange training_batches(const Dataset& data, int64_t batch, int64_t epoch, uint64_t seed) {
  return {data, Batches::training(data.size(), batch, epoch, seed)};
}

}  // namespace ranvier::data
