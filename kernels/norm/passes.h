// What the forward and backward passes of the fast batch norm share: shards, scratch memory and per-channel sums.
#pragma once
#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "kernels/common/parallel.h"
#include "kernels/common/simd.h"
#include "kernels/norm/norm.h"

namespace ranvier::kernels::norm_detail {
using simd::Floats;

/// Act(norm(x)) rises or falls with x throughout.
constexpr bool monotone(Activation act) { return act == Activation::none || act == Activation::relu; }

/// Calls `body` with the activation as a compile-time constant.
template <class Body>
void with_activation(Activation act, Body&& body) {
  switch (act) {
    case Activation::none:
      return body(std::integral_constant<Activation, Activation::none>{});
    case Activation::relu:
      return body(std::integral_constant<Activation, Activation::relu>{});
    case Activation::gelu:
      return body(std::integral_constant<Activation, Activation::gelu>{});
    case Activation::silu:
      return body(std::integral_constant<Activation, Activation::silu>{});
  }
}

inline int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }

/// Shards of a pass over `rows` rows of c floats: pieces of about 64 KiB, that two threads balance and a cache holds.
inline int64_t row_shards(int64_t rows, int64_t c) { return shard_count(rows, std::max<int64_t>(16384 / c, 1)); }

/// The pieces that passes over x are cut into: single positions without a pool; with one, pairs of map rows, of which
/// the last of an image is a single row where an odd height is kept (`after`, whose statistics include it).
struct Units {
  explicit Units(const NormDims& d) {
    const bool pooled = d.pool != PoolPlace::none;
    out_h_ = d.out_h();
    in_h_ = pooled ? d.h : d.h * d.w;
    per_image_ = !pooled ? d.h * d.w : d.pool == PoolPlace::after ? (d.h + 1) / 2 : d.h / 2;
    size_ = pooled ? 2 * d.w * d.c : d.c;
    count = d.n * per_image_;
    block = std::clamp<int64_t>(4096 / std::max<int64_t>(size_, 1), 1, 256);  // about 16 KiB: read twice from L1
  }
  int64_t count, block;

  int64_t shards() const { return shard_count(count, std::max<int64_t>(16384 / size_, 1)); }
  /// First map row of x (over all images) of pair u; of pair `count`, the end of x.
  int64_t in_row(int64_t u) const { return u / per_image_ * in_h_ + 2 * (u % per_image_); }
  int64_t out_row(int64_t u) const { return u / per_image_ * out_h_ + u % per_image_; }
  bool whole(int64_t u) const { return u % per_image_ < out_h_; }
  /// Rows of the statistics that lie before pair u.
  int64_t stat_rows(const NormDims& d, int64_t u) const {
    return d.pool == PoolPlace::none ? u : d.pool == PoolPlace::after ? in_row(u) * d.w : out_row(u) * d.out_w();
  }

 private:
  int64_t in_h_, out_h_, per_image_, size_;
};

/// Per-channel constants of the passes, each padded to whole vectors.
struct Channels {
  float *mean, *scale, *beta, *sign;  // scale = rstd gamma; sign of gamma
  float *shift, *tilt;                // backward: dx = scale g - shift - (x - mean) tilt

  RANVIER_INLINE Floats affine(Floats x, int64_t c) const {
    const simd::Whole whole;
    return simd::fma(x - load(mean + c, whole), load(scale + c, whole), load(beta + c, whole));
  }
};

/// Sums of one shard: of x - pivot and its square (forward, pivot a value near the mean), or of g and g (x - mean).
struct Partial {
  double *pivot, *sum, *square;
};

/// The workspace, laid out.
struct Scratch {
  Scratch(const NormDims& d, void* workspace) : padded(round_up(d.c, simd::lanes)) {
    const int64_t sums = 3 * padded * std::max(Units(d).shards(), row_shards(d.out_rows(), d.c));
    bytes = static_cast<size_t>(padded) * sizeof(float) * 6 + static_cast<size_t>(sums) * sizeof(double);
    if (!workspace) return;
    partials_ = static_cast<double*>(workspace);
    float* f = reinterpret_cast<float*>(partials_ + sums);
    channels = {f, f + padded, f + 2 * padded, f + 3 * padded, f + 4 * padded, f + 5 * padded};
  }
  int64_t padded;
  size_t bytes;
  Channels channels{};

  Partial partial(int64_t shard) const {
    double* at = partials_ + 3 * shard * padded;
    return {at, at + padded, at + 2 * padded};
  }
  void set_signs(const NormDims& d, const float* gamma) const {
    std::fill_n(channels.sign, padded, 1.0f);
    for (int64_t c = 0; c < d.c && gamma; ++c) channels.sign[c] = float(gamma[c] > 0) - float(gamma[c] < 0);
  }
  void set_affine(const NormDims& d, const float* mean, const float* rstd, const float* gamma,
                  const float* beta) const {
    for (float* p : {channels.mean, channels.scale, channels.beta}) std::fill_n(p, padded, 0.0f);
    for (int64_t c = 0; c < d.c; ++c) {
      channels.mean[c] = mean[c];
      channels.scale[c] = rstd[c] * (gamma ? gamma[c] : 1);
      channels.beta[c] = beta ? beta[c] : 0;
    }
  }

 private:
  double* partials_ = nullptr;
};

/// Adds one block of rows (in cache) to a shard's sums: the block's own mean is taken first and squares are of
/// distances from it, so that f32 sums lose nothing to a mean far from zero; blocks are joined in f64.
void add_block(const float* x, int64_t rows, int64_t c, const Partial& partial, bool first);

/// Adds a vector of f32 block sums to f64 ones.
RANVIER_INLINE void add_to(double* sum, Floats block) {
  alignas(64) float values[simd::lanes];
  store(values, block, simd::Whole{});
#pragma omp simd
  for (int i = 0; i < simd::lanes; ++i) sum[i] += values[i];
}

/// Joins the shards' sums in shard order (Chan, Golub, LeVeque 1983) into mean and biased variance.
void merge_statistics(const NormDims& d, const Scratch& s, const Units& units, float* mean, float* variance);

}  // namespace ranvier::kernels::norm_detail
