// A data set drawn by the program itself, for a machine that has neither CIFAR-10 nor a network.
#pragma once
#include <cstdint>

#include "data/dataset.h"

namespace ranvier::data {

/// Sizes and seed of the generated set.
struct GeneratedOptions {
  uint64_t seed = 0;
  int64_t train_per_class = 5000;
  int64_t test_per_class = 1000;
};

/// Ten classes of 32x32 pictures: stripes, checkers, dots, blobs, gradient, disc, ring, square, triangle, cross, with
/// random colours, place, size, direction, a small square in the way, uneven light and noise. A shape may be lighter or
/// darker than its ground and stand anywhere, so no linear map of the pixels tells the classes apart, while a small
/// convolutional network learns them. Integer arithmetic on Philox4x32-10 draws of (seed, split, image): the same bytes
/// on every machine and with any number of threads; image i does not depend on how many there are. Labels go round
/// robin. Throws if a size is below 1.
Splits generated(const GeneratedOptions& options = {});

}  // namespace ranvier::data
