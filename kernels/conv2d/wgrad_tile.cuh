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

/// What a thread copies of one operand of a step: column chunk `chunk` of every so many rows from `row` on.
struct Share {
  int row, chunk;

  template <class Operand>
  __device__ static Share of() {
    return {static_cast<int>(threadIdx.x) / Operand::line_chunks, static_cast<int>(threadIdx.x) % Operand::line_chunks};
  }
};

/// A step's rows are consecutive pixels of y; columns are any chunks of taps and channels.
template <class T>
class PixelSteps {
 public:
  /// `dy_chunk` and `x_chunk` are this thread's columns of the operands, in chunks.
  __device__ PixelSteps(const WgradProblem<T>& problem, int, int begin, const Share&, int dy_chunk, const Share&,
                        int x_chunk)
      : first_(begin * step_k<T>), dy_chunk_(dy_chunk) {
    const Geometry& g = problem.g;
    const int c_chunks = g.c / per_chunk<T>, tap = x_chunk / c_chunks;
    channel_ = x_chunk % c_chunks;
    h_ = tap < g.r * g.s ? tap / g.s - g.pad_h : g.h;  // no row of the image: columns beyond the filter
    w_ = tap % g.s - g.pad_w;
  }

  /// Chunks from the start of dy to row `row` of the step, -1 where it is zero.
  __device__ int dy(const Geometry& g, int row, int) const {
    const int pixel = first_ + row, chunks = g.k / per_chunk<T>;
    return pixel < g.n * g.p * g.q && dy_chunk_ < chunks ? pixel * chunks + dy_chunk_ : -1;
  }
  /// The same of x.
  __device__ int x(const WgradProblem<T>& problem, int row, int) const {
    const Geometry& g = problem.g;
    const int pixel = first_ + row, n = static_cast<int>(problem.per_image.quotient(static_cast<uint32_t>(pixel)));
    const int p = static_cast<int>(problem.per_row.quotient(static_cast<uint32_t>(pixel - n * g.p * g.q)));
    const int h = p * g.stride_h + h_, w = (pixel - (n * g.p + p) * g.q) * g.stride_w + w_;
    const bool inside = pixel < g.n * g.p * g.q && h >= 0 && h < g.h && w >= 0 && w < g.w;
    return inside ? ((n * g.h + h) * g.w + w) * (g.c / per_chunk<T>)+channel_ : -1;
  }
  __device__ void advance(const Geometry&) { first_ += step_k<T>; }

 private:
  int first_, dy_chunk_, channel_, h_, w_;  // first pixel; channel chunk and tap, less padding, of the thread's columns
};

/// A step's rows are one pixel of y in consecutive images; all columns have one tap, and pixels where it lies on
/// padding are left out. Places are kept as offsets that move along: the loop has no registers left for coordinates.
template <class T>
class ImageSteps {
 public:
  __device__ ImageSteps(const WgradProblem<T>& problem, int tap, int begin, const Share& dy_share, int dy_chunk,
                        const Share& x_share, int x_chunk) {
    const Geometry& g = problem.g;
    const int k_chunks = g.k / per_chunk<T>, c_chunks = g.c / per_chunk<T>, r = tap / g.s, s = tap % g.s;
    const Taps p = SplitPlan::outputs_of(g.p, g.stride_h, g.pad_h, r, g.h);
    const Taps q = SplitPlan::outputs_of(g.q, g.stride_w, g.pad_w, s, g.w);
    height_ = p.end - p.begin, width_ = q.end - q.begin;
    const int pixels = height_ * width_ > 0 ? height_ * width_ : 1, at = begin % pixels;
    const int image = begin / pixels * step_k<T>, i = width_ > 0 ? at / width_ : 0, j = width_ > 0 ? at % width_ : 0;
    images_ = g.n - image, left_p_ = height_ - i, left_q_ = width_ - j;
    const int at_p = p.begin + i, at_q = q.begin + j;
    dy_ = (((image + dy_share.row) * g.p + at_p) * g.q + at_q) * k_chunks + dy_chunk;
    dy_exists_ = dy_chunk < k_chunks;
    x_ = (((image + x_share.row) * g.h + at_p * g.stride_h + r - g.pad_h) * g.w + at_q * g.stride_w + s - g.pad_w) *
             c_chunks +
         x_chunk % c_chunks;
  }

  __device__ int dy(const Geometry& g, int row, int rows_on) const {
    return row < images_ && dy_exists_ ? dy_ + rows_on * g.p * g.q * (g.k / per_chunk<T>) : -1;
  }
  __device__ int x(const WgradProblem<T>& problem, int row, int rows_on) const {
    const Geometry& g = problem.g;
    return row < images_ ? x_ + rows_on * g.h * g.w * (g.c / per_chunk<T>) : -1;
  }
  __device__ void advance(const Geometry& g) {
    const int k_chunks = g.k / per_chunk<T>, c_chunks = g.c / per_chunk<T>;
    dy_ += k_chunks, x_ += g.stride_w * c_chunks;
    if (--left_q_ > 0) return;
    left_q_ = width_;
    dy_ += (g.q - width_) * k_chunks, x_ += (g.stride_h * g.w - width_ * g.stride_w) * c_chunks;
    if (--left_p_ > 0) return;
    left_p_ = height_;
    images_ -= step_k<T>;
    dy_ += (step_k<T> * g.p - height_) * g.q * k_chunks;
    x_ += (step_k<T> * g.h - height_ * g.stride_h) * g.w * c_chunks;
  }

 private:
  int dy_, x_;           // chunks to the first row that this thread copies
  bool dy_exists_;       // its column is one of dy's
  int images_;           // left from the step's first on
  int height_, width_;   // of the pixels where the tap lies inside the image
  int left_p_, left_q_;  // of them, rows and columns of this row
};

/// `positional` false: any shape. `positional` true: C must be a multiple of the tile's columns. Channels come in whole
/// chunks.
template <class T, bool positional, class Shape_, template <Major, Major> class ProductFor>
class WgradTile {
 public:
  using Shape = Shape_;
  using Problem = WgradProblem<T>;
  using Product = ProductFor<Major::extent, Major::extent>;
  using A = typename Product::TileA;
  using B = typename Product::TileB;
  static constexpr size_t store_bytes = 0;

  __device__ explicit WgradTile(const Problem& problem) : WgradTile(problem, Share::of<A>(), Share::of<B>()) {}

  __device__ bool outside() const { return false; }
  __device__ int steps() const { return steps_; }

  /// Copies the operands of the next step.
  __device__ void load(unsigned char* a, unsigned char* b) {
    const Geometry& g = problem_.g;
    copy<A>(a, problem_.dy, [&](int row, int rows_on) { return walk_.dy(g, row, rows_on); });
    copy<B>(b, problem_.x, [&](int row, int rows_on) { return walk_.x(problem_, row, rows_on); });
    walk_.advance(g);
  }

  __device__ void store(const Product& product, unsigned char*) const {
    const Geometry& g = problem_.g;
    const int columns = g.r * g.s * g.c;
    const Place& at = place();
    store_sums<false>(product, problem_.sums + int64_t{at.split} * g.k * columns, g.k, columns, at.row, at.column);
  }

 private:
  /// Of the block: where its sums go. In shared memory until they are made.
  struct Place {
    int split, row, column;
  };
  __device__ static Place& place() {
    RANVIER_SHARED(Place, kept, [1]);
    return kept[0];
  }
  /// What the grid says of this block.
  struct Block {
    Place place;
    int group, begin, end;  // of the plan, and its units

    __device__ explicit Block(const Problem& problem) {
      const Geometry& g = problem.g;
      const auto [found, split] = problem.plan.find(g, static_cast<int>(blockIdx.y));
      const int64_t units = problem.plan.units(g, found), splits = problem.plan.splits(g, found);
      const int row_tiles = (g.k + Shape::bm - 1) / Shape::bm, tile = static_cast<int>(blockIdx.x);
      group = found;
      begin = static_cast<int>(units * split / splits), end = static_cast<int>(units * (split + 1) / splits);
      place = {split, tile % row_tiles * Shape::bm, (positional ? group * g.c : 0) + tile / row_tiles * Shape::bn};
    }
  };

  __device__ WgradTile(const Problem& problem, const Share& a, const Share& b)
      : WgradTile(problem, Block(problem), a, b) {}
  __device__ WgradTile(const Problem& problem, const Block& block, const Share& a, const Share& b)
      : problem_(problem),
        steps_(block.end - block.begin),
        walk_(problem, block.group, block.begin, a, block.place.row / per_chunk<T> + a.chunk, b,
              block.place.column / per_chunk<T> + b.chunk) {
    if (threadIdx.x == 0) place() = block.place;
  }

  /// Copies this thread's chunks of an operand; `offset_of(row, rows after the first)` is where a row lies, in chunks.
  template <class Operand, class OffsetOf>
  __device__ static void copy(unsigned char* tile, const T* from, OffsetOf&& offset_of) {
    constexpr int apart = Shape::threads / Operand::line_chunks;
    const Share share = Share::of<Operand>();
    const Chunk* const chunks = reinterpret_cast<const Chunk*>(from);
#pragma unroll
    for (int i = 0; i < step_k<T> / apart; ++i) {
      const int row = share.row + i * apart, offset = offset_of(row, i * apart);
      ptx::cp_async_16(tile + Operand::offset(row, share.chunk), offset >= 0 ? chunks + offset : chunks,
                       offset >= 0 ? 16 : 0);
    }
  }

  const Problem& problem_;
  int steps_;
  std::conditional_t<positional, ImageSteps<T>, PixelSteps<T>> walk_;
};

}  // namespace ranvier::kernels::conv
