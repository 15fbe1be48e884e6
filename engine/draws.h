// Random draws on the host for what is no traced step (attacks, perturbed weights, who connects to whom): pure
// functions of their key.
#pragma once
#include <cmath>
#include <cstdint>
#include <string_view>

#include "kernels/common/math.h"
#include "kernels/common/philox.h"

namespace ranvier {

/// Draws of one stream (Philox4x32-10 of seed, stream, step and element, as traced draws are): element e of step s has
/// its value whatever else is drawn, and in whatever order.
class Draws {
 public:
  Draws(uint64_t seed, std::string_view stream) : seed_(seed), stream_(kernels::philox::stream_hash(stream)) {}

  /// U[0, 1).
  float uniform(uint64_t step, uint64_t element) const { return kernels::philox::uniform(key(step), element); }
  /// U[0, 1) with 53 bits: a sequence of its own beside `uniform`.
  double uniform53(uint64_t step, uint64_t element) const {
    const auto words = kernels::philox::block_words(key(step), static_cast<uint32_t>(element));
    return kernels::philox::uniform53_of(words.word[0], words.word[1]);
  }
  /// N(0, 1).
  float normal(uint64_t step, uint64_t element) const { return kernels::philox::normal(key(step), element); }
  /// Uniform on 0 ... range - 1.
  int64_t below(int64_t range, uint64_t step, uint64_t element) const {
    return kernels::philox::integer_of(kernels::philox::bits(seed_, stream_, step, element), 0,
                                       static_cast<uint64_t>(range));
  }

 private:
  kernels::philox::Key key(uint64_t step) const { return {seed_, stream_, step}; }
  uint64_t seed_, stream_;
};

// What a drawn U[0, 1) is turned into or compared with; the same bits on every machine.

/// Failures before a success of probability p in (0, 1).
class Geometric {
 public:
  explicit Geometric(double p) : scale_(1 / kernels::math::log1p(-p)) {}
  /// `u` in (0, 1].
  double operator()(double u) const { return std::floor(kernels::math::log(u) * scale_); }

 private:
  double scale_;
};

/// exp(-x^2 / 2).
inline double gaussian(double x) { return kernels::math::exp(-0.5 * x * x); }

}  // namespace ranvier
