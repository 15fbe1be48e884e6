// Tiles for channels that do not come in chunks of 16 bytes, or filters beyond 16 x 16: every element is fetched by
// itself. Correct for every shape and fast for none.
#pragma once
#include "kernels/conv2d/main_loop.cuh"
#include "kernels/conv2d/split.cuh"

namespace ranvier::kernels::conv {

/// Operands and result as in ConvPass; the filter's gradient goes to `sums`, (splits, K, R, S, C).
template <class T>
struct ScalarProblem {
  Geometry g;
  const T *a, *b;
  T* out;
  float* sums;
  SplitPlan plan;
};

template <class T, ConvPass pass, class Shape_, template <Major, Major> class ProductFor>
class ScalarTile {
 public:
  using Shape = Shape_;
  using Problem = ScalarProblem<T>;
  static constexpr Major major_a = pass == ConvPass::wgrad ? Major::extent : Major::depth;
  static constexpr Major major_b = pass == ConvPass::forward ? Major::depth : Major::extent;
  using Product = ProductFor<major_a, major_b>;
  using A = typename Product::TileA;
  using B = typename Product::TileB;
  static constexpr size_t store_bytes =
      pass == ConvPass::wgrad ? 0 : sizeof(T) * Shape::bm * (Shape::bn + per_chunk<T>);

  __device__ explicit ScalarTile(const Problem& problem) : problem_(problem) {
    const Geometry& g = problem.g;
    rows_ = pass == ConvPass::forward ? g.n * g.p * g.q : pass == ConvPass::dgrad ? g.n * g.h * g.w : g.k;
    columns_ = pass == ConvPass::forward ? g.k : pass == ConvPass::dgrad ? g.c : g.r * g.s * g.c;
    reduction_ = pass == ConvPass::forward ? g.r * g.s * g.c
                 : pass == ConvPass::dgrad ? g.r * g.s * g.k
                                           : g.n * g.p * g.q;
    const int column_tiles = (columns_ + Shape::bn - 1) / Shape::bn;
    column_ = static_cast<int>(blockIdx.x) % column_tiles * Shape::bn;
    row_ = static_cast<int>(blockIdx.x) / column_tiles * Shape::bm;
    const int units = (reduction_ + step_k<T> - 1) / step_k<T>;
    int begin = 0, end = units;
    if constexpr (pass == ConvPass::wgrad) {
      const int64_t splits = problem.plan.splits(g, 0);
      begin = static_cast<int>(units * int64_t{blockIdx.y} / splits);
      end = static_cast<int>(units * (int64_t{blockIdx.y} + 1) / splits);
    }
    steps_ = end - begin;
    first_ = begin * step_k<T>;
  }

  __device__ bool outside() const { return false; }
  __device__ int steps() const { return steps_; }

  __device__ void load(unsigned char* a, unsigned char* b) {
    fill<A, major_a>(a, [&](int row, int k) { return a_at(row_ + row, first_ + k); });
    fill<B, major_b>(b, [&](int column, int k) { return b_at(column_ + column, first_ + k); });
    first_ += step_k<T>;
  }

  __device__ void store(const Product& product, unsigned char* shared) const {
    if constexpr (pass == ConvPass::wgrad)
      store_sums<true>(product, problem_.sums + int64_t{blockIdx.y} * rows_ * columns_, rows_, columns_, row_, column_);
    else
      store_rows<T, Shape, true>(product, shared, problem_.out, columns_, column_,
                                 [&](int row) -> int64_t { return row_ + row < rows_ ? row_ + row : -1; });
  }

 private:
  /// Writes all chunks of an operand's tile, element by element.
  template <class Layout, Major major, class At>
  __device__ static void fill(unsigned char* tile, At&& at) {
    constexpr int e = per_chunk<T>;
    for (int i = static_cast<int>(threadIdx.x); i < Layout::lines * Layout::line_chunks; i += Shape::threads) {
      const int line = i / Layout::line_chunks, chunk = i % Layout::line_chunks;
      alignas(16) T values[e];
      for (int j = 0; j < e; ++j) values[j] = major == Major::depth ? at(line, chunk * e + j) : at(chunk * e + j, line);
      *reinterpret_cast<Chunk*>(tile + Layout::offset(line, chunk)) = *reinterpret_cast<const Chunk*>(values);
    }
  }

  __device__ static T zero() { return narrow<T>(0.0f); }

  /// x at image n, row h, column w, which may lie on padding.
  __device__ static T x_at(const T* x, const Geometry& g, int n, int h, int w, int c) {
    return h >= 0 && h < g.h && w >= 0 && w < g.w ? x[((int64_t{n} * g.h + h) * g.w + w) * g.c + c] : zero();
  }
  /// x under tap (r, s) of output pixel `pixel`.
  __device__ static T x_under(const T* x, const Geometry& g, int pixel, int tap, int c) {
    const int n = pixel / (g.p * g.q), p = pixel / g.q % g.p, q = pixel % g.q;
    return x_at(x, g, n, p * g.stride_h + tap / g.s - g.pad_h, q * g.stride_w + tap % g.s - g.pad_w, c);
  }

  __device__ T a_at(int row, int k) const {
    const Geometry& g = problem_.g;
    if (row >= rows_ || k >= reduction_) return zero();
    if constexpr (pass == ConvPass::forward) {
      return x_under(problem_.a, g, row, k / g.c, k % g.c);
    } else if constexpr (pass == ConvPass::dgrad) {
      const int n = row / (g.h * g.w), tap = k / g.k;
      const int h = row / g.w % g.h + g.pad_h - tap / g.s, w = row % g.w + g.pad_w - tap % g.s;
      const int p = h / g.stride_h, q = w / g.stride_w;
      if (h < 0 || w < 0 || h % g.stride_h || w % g.stride_w || p >= g.p || q >= g.q) return zero();
      return problem_.a[((int64_t{n} * g.p + p) * g.q + q) * g.k + k % g.k];
    } else {
      return problem_.b[int64_t{k} * g.k + row];
    }
  }
  __device__ T b_at(int column, int k) const {
    const Geometry& g = problem_.g;
    if (column >= columns_ || k >= reduction_) return zero();
    if constexpr (pass == ConvPass::forward)
      return problem_.b[int64_t{column} * reduction_ + k];
    else if constexpr (pass == ConvPass::dgrad)
      return problem_.b[(int64_t{k % g.k} * g.r * g.s + k / g.k) * g.c + column];
    else
      return x_under(problem_.a, g, k, column / g.c, column % g.c);
  }

  const Problem& problem_;
  int rows_, columns_, reduction_;
  int row_, column_, steps_, first_;  // first row, column and element of the reduction
};

}  // namespace ranvier::kernels::conv
