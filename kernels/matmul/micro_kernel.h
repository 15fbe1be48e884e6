// The register-blocked product that matmul and every convolution here end in: a few rows times one packed panel.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "kernels/matmul/vector.h"

namespace ranvier::kernels {

/// The left operand of a panel product. Element (row i, depth p) lies at
///   data[i * stride + p]  (rows_contiguous false: each row runs along the depth), or
///   data[p * stride + i]  (rows_contiguous true: each depth step holds the rows side by side).
/// The depth is cut in `segments` of `length` steps; segment g starts at data + g * segment_stride. That is what lets a
/// convolution read its taps out of a padded image in place.
template <class T>
struct PanelOperand {
  const T* data;
  int64_t stride;
  int64_t segments, length, segment_stride;
};

/// Packed panels hold (depth, columns) with the columns side by side, panel_width columns each; the last panel is one
/// register wide where one is enough. Width in elements of the panel that starts at column `first` of `columns`:
template <class T>
inline int64_t panel_columns(int64_t columns, int64_t first) {
  return columns - first > Vec<T>::width ? panel_width<T> : int64_t{Vec<T>::width};
}
/// Number of panels over `columns`, and columns with the padding of the last one.
template <class T>
inline int64_t panel_count(int64_t columns) {
  return (columns + panel_width<T> - 1) / panel_width<T>;
}
template <class T>
inline int64_t padded_columns(int64_t columns) {
  return (columns + Vec<T>::width - 1) / Vec<T>::width * Vec<T>::width;
}

namespace micro {

/// out (Rows, columns) = or += a * panel; the sums stay in registers over the whole depth.
template <class T, int Rows, int Vecs, bool RowsContiguous>
void block(const PanelOperand<T>& a, const T* panel, T* out, int64_t out_stride, int64_t columns, bool accumulate) {
  using V = Vec<T>;
  using Reg = typename V::Reg;
  constexpr int w = V::width;
  Reg sum[Rows][Vecs];
  for (int i = 0; i < Rows; ++i)
    for (int j = 0; j < Vecs; ++j) sum[i][j] = V::zero();
  for (int i = 0; i < Rows; ++i)  // the rows to write arrive while the sums are made
    for (int j = 0; j < Vecs; ++j) __builtin_prefetch(out + i * out_stride + j * w, 1);
  const int64_t stride = a.stride;
  for (int64_t g = 0; g < a.segments; ++g) {
    // Four base pointers and the offsets 0, 1, 2 strides reach 12 rows with few registers.
    const T* base[4];
    for (int i = 0; i < 4; ++i) base[i] = a.data + g * a.segment_stride + (RowsContiguous ? 0 : 3 * i * stride);
    for (int64_t p = 0; p < a.length; ++p, panel += Vecs * w) {
      Reg b[Vecs];
#pragma GCC unroll 2
      for (int j = 0; j < Vecs; ++j) b[j] = V::load(panel + j * w);
#pragma GCC unroll 12
      for (int i = 0; i < Rows; ++i) {
        const Reg x = V::splat(RowsContiguous ? base[0][i] : base[i / 3][(i % 3) * stride]);
#pragma GCC unroll 2
        for (int j = 0; j < Vecs; ++j) sum[i][j] = V::fma(x, b[j], sum[i][j]);
      }
      for (int i = 0; i < 4; ++i) base[i] += RowsContiguous ? stride : 1;
    }
  }
  const int64_t last = columns - (Vecs - 1) * w;  // lanes of the last register that are written
  for (int i = 0; i < Rows; ++i) {
    for (int j = 0; j < Vecs; ++j) {
      T* to = out + i * out_stride + j * w;
      if (j < Vecs - 1 || last == w) {
        V::store(to, accumulate ? V::load(to) + sum[i][j] : sum[i][j]);
      } else {
        V::store(to, accumulate ? V::load(to, last) + sum[i][j] : sum[i][j], last);
      }
    }
  }
}

template <class T>
using Block = void (*)(const PanelOperand<T>&, const T*, T*, int64_t, int64_t, bool);

template <class T, int Vecs, bool RowsContiguous, int... Rows>
constexpr std::array<Block<T>, sizeof...(Rows)> blocks(std::integer_sequence<int, Rows...>) {
  return {&block<T, Rows + 1, Vecs, RowsContiguous>...};
}
template <class T, int Vecs, bool RowsContiguous>
inline constexpr auto table = blocks<T, Vecs, RowsContiguous>(std::make_integer_sequence<int, micro_rows>());

}  // namespace micro

/// out (rows, columns), rows `out_stride` apart, = or += a (rows, depth) * panel (depth, columns); columns <=
/// panel_width. The depth is added in order in one sum per element (per call), whatever the rows: results do not depend
/// on blocking.
template <class T, bool RowsContiguous>
void multiply_panel(int64_t rows, PanelOperand<T> a, const T* panel, T* out, int64_t out_stride, int64_t columns,
                    bool accumulate) {
  const auto& kernels =
      columns > Vec<T>::width ? micro::table<T, 2, RowsContiguous> : micro::table<T, 1, RowsContiguous>;
  int64_t blocks = (rows + micro_rows - 1) / micro_rows;
  for (; blocks > 0; --blocks) {
    const int64_t count = (rows + blocks - 1) / blocks;  // near-equal blocks: no thin last one
    kernels[count - 1](a, panel, out, out_stride, columns, accumulate);
    a.data += RowsContiguous ? count : count * a.stride;
    out += count * out_stride;
    rows -= count;
  }
}

/// Packs columns [first, first + panel_columns) of a (depth, columns) matrix into a panel (depth, panel_columns);
/// element (p, j) is source[p * depth_stride + j * column_stride], one of the strides being 1. Columns beyond the end
/// are zero.
template <class T>
void pack_panel(const T* source, int64_t depth, int64_t columns, int64_t first, int64_t depth_stride,
                int64_t column_stride, T* panel) {
  const int64_t width = panel_columns<T>(columns, first), count = std::min(width, columns - first);
  source += first * column_stride;
  if (column_stride == 1) {
    for (int64_t p = 0; p < depth; ++p, source += depth_stride, panel += width) {
      if (count == width) {  // a call of memmove for each row costs as much as the row
        for (int64_t j = 0; j < width; j += Vec<T>::width) Vec<T>::store(panel + j, Vec<T>::load(source + j));
      } else {
        std::copy_n(source, count, panel);
        std::fill(panel + count, panel + width, T(0));
      }
    }
    return;
  }
  constexpr int64_t tile = 16;  // depth steps at a time: a tile of the panel stays in L1 while columns are read along
  for (int64_t p0 = 0; p0 < depth; p0 += tile) {
    const int64_t steps = std::min(tile, depth - p0);
    int64_t j = 0;
    if constexpr (std::is_same_v<T, float>) {
      for (; steps == tile && j + tile <= count; j += tile) {
        transpose_16x16(source + j * column_stride + p0, column_stride, panel + p0 * width + j, width);
      }
    }
    for (; j < width; ++j) {
      T* to = panel + p0 * width + j;
      const T* from = source + j * column_stride + p0;
      for (int64_t p = 0; p < steps; ++p) to[p * width] = j < count ? from[p] : T(0);
    }
  }
}

/// Bump allocator over a caller's workspace; every piece starts on a cache line.
class Carver {
 public:
  static constexpr size_t line = 64;
  explicit Carver(void* memory) : at_((reinterpret_cast<uintptr_t>(memory) + line - 1) / line * line) {}
  template <class T>
  T* take(int64_t count) {
    T* piece = reinterpret_cast<T*>(at_);
    at_ += bytes<T>(count);
    return piece;
  }
  /// Bytes that take<T>(count) uses; a workspace needs the sum of these and one line more.
  template <class T>
  static size_t bytes(int64_t count) {
    return (static_cast<size_t>(count) * sizeof(T) + line - 1) / line * line;
  }

 private:
  uintptr_t at_;
};

}  // namespace ranvier::kernels
