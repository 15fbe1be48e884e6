// Tiles of the forward pass and of the gradient with respect to x: rows are pixels, columns are channels of the result,
// and the reduction runs over taps and channels of the source, one chunk of channels of one tap after another.
#pragma once
#include "kernels/conv2d/geometry.cuh"
#include "kernels/conv2d/main_loop.cuh"

namespace ranvier::kernels::conv {

/// `source` is x or dy, `out` is y or dx.
template <class T>
struct PixelProblem {
  Geometry g;
  const T *source, *filter;
  T* out;
  PixelOrder order;  // of positional tiles
};

/// Position in the reduction: tap (i, j) of a rectangle of taps, chunk c of the source's channels.
struct Walk {
  int i, j, c;

  __device__ void advance(int chunks, int channel_chunks, const Taps& columns) {
    c += chunks;
    while (c >= channel_chunks) {
      c -= channel_chunks;
      if (++j == columns.end) j = columns.begin, ++i;
    }
  }
};

/// A tile's rows are either consecutive pixels of consecutive images (`positional` false: any shape; every row has its
/// own mask of taps that lie on padding), or one pixel of consecutive images (`positional`): then a tap lies on padding
/// for all rows or for none, and is left out. Channels come in whole chunks; the filter is at most 16 x 16 unless the
/// tile is positional.
template <class T, ConvPass pass, bool positional, class Shape_, template <Major, Major> class ProductFor>
class PixelTile {
 public:
  using Shape = Shape_;
  using Problem = PixelProblem<T>;
  /// (K, R, S, C) has the reduction of the forward pass along its rows, and that of the gradient across them.
  static constexpr Major major_b = pass == ConvPass::forward ? Major::depth : Major::extent;
  using Product = ProductFor<Major::depth, major_b>;
  using A = typename Product::TileA;
  using B = typename Product::TileB;
  static constexpr size_t store_bytes = sizeof(T) * Shape::bm * (Shape::bn + per_chunk<T>);

  __device__ explicit PixelTile(const Problem& problem) : problem_(problem) {
    const Geometry& g = problem.g;
    const int column_tiles = (columns() + Shape::bn - 1) / Shape::bn;
    column_ = static_cast<int>(blockIdx.x) % column_tiles * Shape::bn;
    const int tile = static_cast<int>(blockIdx.x) / column_tiles;
    if constexpr (positional) {
      const int width = pass == ConvPass::forward ? g.q : g.w, height = pass == ConvPass::forward ? g.p : g.h;
      const int groups = (g.n + Shape::bm - 1) / Shape::bm, pixels = height * width;
      const bool by_pixel = problem.order.pixels_outside;
      const int pixel = problem.order.pixel(by_pixel ? tile / groups : tile % pixels, width);
      first_ = (by_pixel ? tile % groups : tile / pixels) * Shape::bm;
      set_axes(pixel / width % g.stride_h, pixel % width % g.stride_w);
      out_pixel_ = pixel;
      const int at_h = (pixel / width - h_.out_first) / h_.out_stride;
      const int at_w = (pixel % width - w_.out_first) / w_.out_stride;
      rows_ = taps_inside(h_, at_h, source_height());
      taps_ = taps_inside(w_, at_w, source_width());
      one_image_ = source_height() * source_width() * channel_chunks();
      offset_[0] =
          (first_ + row_) * one_image_ + (h_.source(at_h) * source_width() + w_.source(at_w)) * channel_chunks();
    } else {
      set_axes(static_cast<int>(blockIdx.z) / g.stride_w, static_cast<int>(blockIdx.z) % g.stride_w);
      first_ = tile * Shape::bm;
      rows_ = {0, h_.taps}, taps_ = {0, w_.taps};
#pragma unroll
      for (int i = 0; i < copies_a; ++i) locate(i);
    }
    walk_ = {rows_.begin, taps_.begin, 0};
    if constexpr (pass == ConvPass::forward) walk_.advance(chunk_, channel_chunks(), taps_);
  }

  __device__ bool outside() const { return !positional && first_ >= problem_.g.n * h_.count * w_.count; }

  __device__ int steps() const {
    return ((rows_.end - rows_.begin) * (taps_.end - taps_.begin) * channel_chunks() + step_chunks - 1) / step_chunks;
  }

  /// Copies the operands of the next step.
  __device__ void load(unsigned char* a, unsigned char* b) {
    load_source(a);
    if constexpr (pass == ConvPass::forward)
      load_filter_rows(b);
    else
      load_filter_columns(b);
    walk_.advance(step_chunks, channel_chunks(), taps_);
  }

  __device__ void store(const Product& product, unsigned char* shared) const {
    const Geometry& g = problem_.g;
    store_rows<T, Shape, false>(product, shared, problem_.out, columns(), column_, [&](int row) -> int64_t {
      const int i = first_ + row;
      if constexpr (positional) {
        const int pixels = pass == ConvPass::forward ? g.p * g.q : g.h * g.w;
        return i < g.n ? int64_t{i} * pixels + out_pixel_ : -1;
      } else {
        if (i >= g.n * h_.count * w_.count) return -1;
        if (h_.out_stride == 1 && w_.out_stride == 1) return i;
        const int n = i / (h_.count * w_.count), at = i % (h_.count * w_.count);
        return (int64_t{n} * g.h + at / w_.count * h_.out_stride + h_.out_first) * g.w + at % w_.count * w_.out_stride +
               w_.out_first;
      }
    });
  }

 private:
  static constexpr int copy_rows = Shape::copy_rows, copies_a = Shape::bm * step_chunks / Shape::threads;

  __device__ int columns() const { return pass == ConvPass::forward ? problem_.g.k : problem_.g.c; }
  __device__ int channel_chunks() const {
    return (pass == ConvPass::forward ? problem_.g.c : problem_.g.k) / per_chunk<T>;
  }
  __device__ int source_height() const { return pass == ConvPass::forward ? problem_.g.h : problem_.g.p; }
  __device__ int source_width() const { return pass == ConvPass::forward ? problem_.g.w : problem_.g.q; }

  __device__ void set_axes(int remainder_h, int remainder_w) {
    const Geometry& g = problem_.g;
    h_ = axis_of<pass>(g.h, g.p, g.r, g.stride_h, g.pad_h, remainder_h);
    w_ = axis_of<pass>(g.w, g.q, g.s, g.stride_w, g.pad_w, remainder_w);
  }

  /// Where the i-th row that this thread copies reads tap (0, 0), and which taps of it lie inside the source.
  __device__ void locate(int i) {
    const int row = first_ + row_ + i * copy_rows, pixels = h_.count * w_.count;
    offset_[i] = 0, mask_[i] = 0;
    if (row >= problem_.g.n * pixels) return;
    const int n = row / pixels, at_h = row % pixels / w_.count, at_w = row % w_.count;
    offset_[i] = ((n * source_height() + h_.source(at_h)) * source_width() + w_.source(at_w)) * channel_chunks();
    const Taps inside_h = taps_inside(h_, at_h, source_height()), inside_w = taps_inside(w_, at_w, source_width());
    mask_[i] = bits(inside_h) | bits(inside_w) << 16;
  }
  __device__ static uint32_t bits(const Taps& taps) { return (1u << taps.end) - (1u << taps.begin); }

  /// Of each row of A the chunk that this thread copies: channels of one tap, zeros beyond the image and the reduction.
  __device__ void load_source(unsigned char* a) const {
    Walk at = walk_;
    if constexpr (pass == ConvPass::dgrad) at.advance(chunk_, channel_chunks(), taps_);
    const Chunk* const source = reinterpret_cast<const Chunk*>(problem_.source);
    const int tap = sign * (at.i * source_width() + at.j) * channel_chunks() + at.c;
    const bool left = at.i < rows_.end;
#pragma unroll
    for (int i = 0; i < copies_a; ++i) {
      const int row = row_ + i * copy_rows;
      bool inside = left;
      int offset = tap;
      if constexpr (positional) {
        inside = inside && first_ + row < problem_.g.n;
        offset += offset_[0] + i * copy_rows * one_image_;
      } else {
        inside = inside && (mask_[i] >> at.i & mask_[i] >> (16 + at.j) & 1);
        offset += offset_[i];
      }
      ptx::cp_async_16(a + A::offset(row, chunk_), inside ? source + offset : source, inside ? 16 : 0);
    }
  }

  /// Chunks before filter tap (i, j) within one output channel.
  __device__ int filter_tap(const Walk& at) const {
    return (h_.first + h_.step * at.i) * problem_.g.s + w_.first + w_.step * at.j;
  }

  /// Forward: rows of B are output channels, whose reduction is contiguous.
  __device__ void load_filter_rows(unsigned char* b) const {
    const Chunk* const filter = reinterpret_cast<const Chunk*>(problem_.filter);
    const int one_channel = problem_.g.r * problem_.g.s * channel_chunks();
    const int offset = filter_tap(walk_) * channel_chunks() + walk_.c;
    const bool left = walk_.i < rows_.end;
#pragma unroll
    for (int i = 0; i < Shape::bn / copy_rows; ++i) {
      const int row = row_ + i * copy_rows;
      const bool inside = left && column_ + row < problem_.g.k;
      ptx::cp_async_16(b + B::offset(row, chunk_), inside ? filter + (column_ + row) * one_channel + offset : filter,
                       inside ? 16 : 0);
    }
  }

  /// Gradient: rows of B are the step's taps and output channels, `per_chunk` of them to a chunk of the walk.
  __device__ void load_filter_columns(unsigned char* b) const {
    constexpr int e = per_chunk<T>, line_chunks = Shape::bn / e, rows = Shape::threads / line_chunks;
    static_assert(rows % e == 0);
    const Chunk* const filter = reinterpret_cast<const Chunk*>(problem_.filter);
    const int row0 = static_cast<int>(threadIdx.x) / line_chunks, chunk = static_cast<int>(threadIdx.x) % line_chunks;
    const int c_chunks = problem_.g.c / e, taps = problem_.g.r * problem_.g.s;
    const bool in_columns = column_ / e + chunk < c_chunks;
    Walk at = walk_;
    at.advance(row0 / e, channel_chunks(), taps_);
#pragma unroll
    for (int i = 0; i < step_k<T> / rows; ++i) {
      if (i > 0) at.advance(rows / e, channel_chunks(), taps_);
      const bool inside = in_columns && at.i < rows_.end;
      const int offset = ((at.c * e + row0 % e) * taps + filter_tap(at)) * c_chunks + column_ / e + chunk;
      ptx::cp_async_16(b + B::offset(row0 + i * rows, chunk), inside ? filter + offset : filter, inside ? 16 : 0);
    }
  }

  static constexpr int sign = pass == ConvPass::forward ? 1 : -1;
  const Problem& problem_;
  int chunk_ = static_cast<int>(threadIdx.x) % step_chunks, row_ = static_cast<int>(threadIdx.x) / step_chunks;
  int first_, column_;  // first row (pixel or image) and column of the tile
  int out_pixel_ = 0;   // positional: the pixel of all rows
  int one_image_ = 0;   // positional: chunks from an image to the next
  int offset_[positional ? 1 : copies_a];
  uint32_t mask_[positional ? 1 : copies_a];
  Axis h_, w_;
  Taps rows_, taps_;  // the rectangle of taps that the tile walks, by row and by column
  Walk walk_;         // of the forward pass at this thread's chunk, of the gradient at the step's first
};

}  // namespace ranvier::kernels::conv
