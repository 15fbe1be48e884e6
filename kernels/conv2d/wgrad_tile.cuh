// Tiles of the gradient with respect to the filter: rows are output channels, columns are taps and input channels, and
// the reduction runs over pixels of all images. It is cut in splits, whose f32 sums are added in order afterwards.
#pragma once
#include "kernels/common/divide.h"
#include "kernels/conv2d/main_loop.cuh"
#include "kernels/conv2d/split.cuh"

namespace ranvier::kernels::conv {

/// `sums` is (splits, K, R, S, C). Grid: x = tiles of a group of the plan, y = splits of all groups.
template <class T>
struct WgradProblem {
  Geometry g;
  const T *x, *dy;
  float* sums;
  SplitPlan plan;
  Divider<uint32_t> per_image, per_row;  // by pixels of y
};

/// A step's rows are either consecutive pixels (`positional` false: any shape, columns are any chunks of taps and
/// channels), or one pixel of consecutive images (`positional`: the tile has one tap, and pixels where that tap lies on
/// padding are left out; C must be a multiple of the tile's columns). Channels come in whole chunks.
template <class T, bool positional, class Shape, template <Major, Major> class ProductFor>
class WgradTile {
 public:
  using Problem = WgradProblem<T>;
  using Product = ProductFor<Major::extent, Major::extent>;
  using A = typename Product::TileA;
  using B = typename Product::TileB;
  static constexpr size_t store_bytes = 0;

  __device__ explicit WgradTile(const Problem& problem) : problem_(problem) {
    const Geometry& g = problem.g;
    const int row_tiles = (g.k + Shape::bm - 1) / Shape::bm, tile = static_cast<int>(blockIdx.x);
    const auto [group, split] = problem.plan.find(g, static_cast<int>(blockIdx.y));
    const int64_t units = problem.plan.units(g, group), splits = problem.plan.splits(g, group);
    const int begin = static_cast<int>(units * split / splits);
    steps_ = static_cast<int>(units * (split + 1) / splits) - begin;
    split_ = split;
    row_ = tile % row_tiles * Shape::bm;
    column_ = (positional ? group * g.c : 0) + tile / row_tiles * Shape::bn;
    const int chunk = column_ / e + static_cast<int>(threadIdx.x) % B::line_chunks, c_chunks = g.c / e;
    channel_ = chunk % c_chunks;
    in_columns_ = chunk / c_chunks < g.r * g.s;
    h_ = chunk / c_chunks / g.s - g.pad_h;
    w_ = chunk / c_chunks % g.s - g.pad_w;
    if constexpr (positional) {
      p_ = SplitPlan::outputs_of(g.p, g.stride_h, g.pad_h, group / g.s, g.h);
      q_ = SplitPlan::outputs_of(g.q, g.stride_w, g.pad_w, group % g.s, g.w);
      const int pixels = (p_.end - p_.begin) * (q_.end - q_.begin), at = pixels > 0 ? begin % pixels : 0;
      first_ = pixels > 0 ? begin / pixels * step_k<T> : 0;  // image
      at_p_ = p_.begin + (pixels > 0 ? at / (q_.end - q_.begin) : 0);
      at_q_ = q_.begin + (pixels > 0 ? at % (q_.end - q_.begin) : 0);
    } else {
      first_ = begin * step_k<T>;  // pixel
    }
  }

  __device__ bool outside() const { return false; }
  __device__ int steps() const { return steps_; }

  /// Copies the operands of the next step.
  __device__ void load(unsigned char* a, unsigned char* b) {
    load_dy(a);
    load_x(b);
    if constexpr (positional) {
      if (++at_q_ == q_.end) {
        at_q_ = q_.begin;
        if (++at_p_ == p_.end) at_p_ = p_.begin, first_ += step_k<T>;
      }
    } else {
      first_ += step_k<T>;
    }
  }

  __device__ void store(const Product& product, unsigned char*) const {
    const Geometry& g = problem_.g;
    const int columns = g.r * g.s * g.c;
    store_sums<false>(product, problem_.sums + int64_t{split_} * g.k * columns, g.k, columns, row_, column_);
  }

 private:
  static constexpr int e = per_chunk<T>;

  __device__ void load_dy(unsigned char* a) const {
    constexpr int rows = threads / A::line_chunks;
    const Geometry& g = problem_.g;
    const Chunk* const dy = reinterpret_cast<const Chunk*>(problem_.dy);
    const int row0 = static_cast<int>(threadIdx.x) / A::line_chunks, k_chunks = g.k / e;
    const int own = static_cast<int>(threadIdx.x) % A::line_chunks, chunk = row_ / e + own;
    const int limit = positional ? g.n : g.n * g.p * g.q;
#pragma unroll
    for (int i = 0; i < step_k<T> / rows; ++i) {
      const int row = row0 + i * rows, at = first_ + row;
      const bool inside = at < limit && chunk < k_chunks;
      const int pixel = positional ? (at * g.p + at_p_) * g.q + at_q_ : at;
      ptx::cp_async_16(a + A::offset(row, own), inside ? dy + (pixel * k_chunks + chunk) : dy, inside ? 16 : 0);
    }
  }

  __device__ void load_x(unsigned char* b) const {
    constexpr int rows = threads / B::line_chunks;
    const Geometry& g = problem_.g;
    const Chunk* const x = reinterpret_cast<const Chunk*>(problem_.x);
    const int row0 = static_cast<int>(threadIdx.x) / B::line_chunks,
              own = static_cast<int>(threadIdx.x) % B::line_chunks;
    const int limit = positional ? g.n : g.n * g.p * g.q;
#pragma unroll
    for (int i = 0; i < step_k<T> / rows; ++i) {
      const int row = row0 + i * rows, at = first_ + row;
      int n = at, p = at_p_, q = at_q_;
      if constexpr (!positional) {
        n = static_cast<int>(problem_.per_image.quotient(static_cast<uint32_t>(at)));
        p = static_cast<int>(problem_.per_row.quotient(static_cast<uint32_t>(at - n * g.p * g.q)));
        q = at - (n * g.p + p) * g.q;
      }
      const int h = p * g.stride_h + h_, w = q * g.stride_w + w_;
      bool inside = at < limit && in_columns_;
      if constexpr (!positional) inside = inside && h >= 0 && h < g.h && w >= 0 && w < g.w;
      const int offset = ((n * g.h + h) * g.w + w) * (g.c / e) + channel_;
      ptx::cp_async_16(b + B::offset(row, own), inside ? x + offset : x, inside ? 16 : 0);
    }
  }

  const Problem& problem_;
  int steps_, split_, row_, column_;  // first row and column of the tile
  int first_;                         // first pixel, or image, of the next step
  int channel_, h_, w_;               // of the chunk of columns that this thread copies: channel, tap less padding
  bool in_columns_;
  int at_p_ = 0, at_q_ = 0;  // positional: the next step's pixel
  Taps p_, q_;               // positional: the pixels where the tap lies inside the image
};

}  // namespace ranvier::kernels::conv
