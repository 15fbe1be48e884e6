// Fast slices, padding and transposes: axes that stay together are merged, what is contiguous moves as one block.
#include <algorithm>
#include <cstring>
#include <utility>

#include "kernels/common/simd.h"
#include "kernels/index/index.h"
#include "kernels/index/rows.h"

namespace ranvier::kernels::cpu {
namespace {

template <class T>
void step_loop(int64_t count, const char* from, int64_t from_step, char* to, int64_t to_step) {
  for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * to_step, from + i * from_step, sizeof(T));
}

/// Moves `count` blocks of `block` bytes whose starts lie `from_step` and `to_step` bytes apart.
void move_blocks(int64_t count, int64_t block, const char* from, int64_t from_step, char* to, int64_t to_step) {
  if (count <= 0 || block <= 0) return;
  if (from_step == block && to_step == block) {
    std::memcpy(to, from, static_cast<size_t>(count * block));
    return;
  }
  switch (block) {
    case 1:
      return step_loop<uint8_t>(count, from, from_step, to, to_step);
    case 2:
      return step_loop<uint16_t>(count, from, from_step, to, to_step);
    case 4:
      return step_loop<uint32_t>(count, from, from_step, to, to_step);
    case 8:
      return step_loop<uint64_t>(count, from, from_step, to, to_step);
  }
  for (int64_t i = 0; i < count; ++i) std::memcpy(to + i * to_step, from + i * from_step, static_cast<size_t>(block));
}

/// The rows (last axis that was not merged) of a slice or of its adjoint, and how one row maps to the other.
struct SliceRows {
  SliceRows(const SliceDims& dims, size_t element) : d(dims) {
    rank = merge_tail(
        d.x, [&](int k) { return d.begin[k] == 0 && d.step[k] == 1 && d.y.d[k] == d.x.d[k]; }, block);
    block *= static_cast<int64_t>(element);
    if (rank == 0) return;
    row_x = d.x.d[rank - 1], row_y = d.y.d[rank - 1];
    begin = d.begin[rank - 1], step = d.step[rank - 1];
    for (int k = 0; k < rank - 1; ++k) rows_x *= d.x.d[k], rows_y *= d.y.d[k];
  }
  const SliceDims& d;
  int rank;
  int64_t block = 1, row_x = 1, row_y = 1, begin = 0, step = 1, rows_x = 1, rows_y = 1;

  /// Row of x that a row of y is taken from.
  int64_t source(int64_t row) const {
    int64_t from = 0, stride = 1;
    for (int k = rank - 1; k-- > 0; row /= d.y.d[k], stride *= d.x.d[k])
      from += (d.begin[k] + row % d.y.d[k] * d.step[k]) * stride;
    return from;
  }
  /// Row of y that a row of x goes to, or -1.
  int64_t target(int64_t row) const {
    int64_t to = 0, stride = 1;
    for (int k = rank - 1; k-- > 0; row /= d.x.d[k], stride *= d.y.d[k]) {
      const int64_t offset = row % d.x.d[k] - d.begin[k], at = offset / d.step[k];
      if (offset % d.step[k] != 0 || at < 0 || at >= d.y.d[k]) return -1;
      to += at * stride;
    }
    return to;
  }
};

}  // namespace

void slice(const SliceDims& d, size_t element, const void* x, void* y) {
  if (d.y.count() == 0) return;
  const SliceRows s(d, element);
  for_rows(s.rows_y, s.row_y * s.block / static_cast<int64_t>(element), [&](int64_t row) {
    move_blocks(s.row_y, s.block, static_cast<const char*>(x) + (s.source(row) * s.row_x + s.begin) * s.block,
                s.step * s.block, static_cast<char*>(y) + row * s.row_y * s.block, s.block);
  });
}

void unslice(const SliceDims& d, size_t element, const void* y, void* x) {
  if (d.x.count() == 0) return;
  const SliceRows s(d, element);
  const bool dense = s.step == 1;
  for_rows(s.rows_x, s.row_x * s.block / static_cast<int64_t>(element), [&](int64_t row) {
    char* to = static_cast<char*>(x) + row * s.row_x * s.block;
    const int64_t from = s.row_y > 0 ? s.target(row) : -1;
    const int64_t head = dense && from >= 0 ? s.begin : s.row_x,
                  tail = dense && from >= 0 ? s.begin + s.row_y : s.row_x;
    std::memset(to, 0, static_cast<size_t>(head * s.block));
    if (from >= 0)
      move_blocks(s.row_y, s.block, static_cast<const char*>(y) + from * s.row_y * s.block, s.block,
                  to + s.begin * s.block, s.step * s.block);
    std::memset(to + tail * s.block, 0, static_cast<size_t>((s.row_x - tail) * s.block));
  });
}

namespace {

int64_t mirrored(int64_t at, int64_t extent) { return at < 0 ? -at : at >= extent ? 2 * (extent - 1) - at : at; }

}  // namespace

void pad_reflect(const PadDims& d, size_t element, const void* x, void* y) {
  if (d.y.count() == 0) return;
  int64_t block;
  const int rank = merge_tail(
      d.x, [&](int k) { return d.before[k] == 0 && d.y.d[k] == d.x.d[k]; }, block);
  block *= static_cast<int64_t>(element);
  const int last = rank - 1;
  const int64_t row_x = rank ? d.x.d[last] : 1, row_y = rank ? d.y.d[last] : 1, before = rank ? d.before[last] : 0;
  int64_t rows = 1;
  for (int k = 0; k < last; ++k) rows *= d.y.d[k];
  for_rows(rows, row_y * block / static_cast<int64_t>(element), [&](int64_t row) {
    int64_t source = 0, stride = 1, rest = row;
    for (int k = last; k-- > 0; rest /= d.y.d[k], stride *= d.x.d[k])
      source += mirrored(rest % d.y.d[k] - d.before[k], d.x.d[k]) * stride;
    const char* from = static_cast<const char*>(x) + source * row_x * block;
    char* to = static_cast<char*>(y) + row * row_y * block;
    move_blocks(before, block, from + before * block, -block, to, block);
    move_blocks(row_x, block, from, block, to + before * block, block);
    move_blocks(row_y - row_x - before, block, from + (row_x - 2) * block, -block, to + (before + row_x) * block,
                block);
  });
}

namespace {

/// A permutation with axes of extent 1 dropped and axes that stay neighbours merged: extents and strides in order of y.
struct Permutation {
  explicit Permutation(const TransposeDims& d) {
    for (int k = 0; k < d.x.rank; ++k) {
      const int axis = d.order[k];
      if (d.x.d[axis] == 1) continue;
      const int64_t stride = d.x.stride(axis);
      if (rank > 0 && from_step[rank - 1] == stride * d.x.d[axis]) {
        extent[rank - 1] *= d.x.d[axis];
        from_step[rank - 1] = stride;
      } else {
        extent[rank] = d.x.d[axis];
        from_step[rank++] = stride;
      }
    }
    int64_t step = 1;
    for (int k = rank; k-- > 0; step *= extent[k]) to_step[k] = step;
  }
  int rank = 0;
  int64_t extent[max_rank], from_step[max_rank], to_step[max_rank];
};

/// One of four rounds that together transpose 16 vectors of 16: swaps the off-diagonal quarters of blocks of 2 S.
template <int S, size_t... I>
RANVIER_INLINE void swap_quarters(simd::Floats (&rows)[16], std::index_sequence<I...>) {
  for (int r = 0; r < 16; ++r) {
    if (r & S) continue;
    const simd::Floats a = rows[r], b = rows[r + S];
    rows[r] = __builtin_shufflevector(a, b, ((I & S) ? int(16 + I - S) : int(I))...);
    rows[r + S] = __builtin_shufflevector(a, b, ((I & S) ? int(16 + I) : int(I + S))...);
  }
}

/// y[j to_step + i] = x[i from_step + j] for i < height, j < width, both at most 16.
template <class T>
void transpose_tile(const T* x, int64_t from_step, int64_t height, T* y, int64_t to_step, int64_t width) {
  if constexpr (sizeof(T) == 4) {
    if (height == 16 && width == 16) {
      simd::Floats rows[16];
      for (int i = 0; i < 16; ++i) std::memcpy(&rows[i], x + i * from_step, sizeof rows[i]);
      constexpr std::make_index_sequence<16> all;
      swap_quarters<1>(rows, all), swap_quarters<2>(rows, all), swap_quarters<4>(rows, all),
          swap_quarters<8>(rows, all);
      for (int j = 0; j < 16; ++j) std::memcpy(y + j * to_step, &rows[j], sizeof rows[j]);
      return;
    }
  }
  for (int64_t j = 0; j < width; ++j)
    for (int64_t i = 0; i < height; ++i) y[j * to_step + i] = x[i * from_step + j];
}

/// Axes other than `a` and `b`: offsets of their flat position.
void outer_offsets(const Permutation& p, int a, int b, int64_t position, int64_t& from, int64_t& to) {
  from = to = 0;
  for (int k = p.rank; k-- > 0;) {
    if (k == a || k == b) continue;
    from += position % p.extent[k] * p.from_step[k];
    to += position % p.extent[k] * p.to_step[k];
    position /= p.extent[k];
  }
}

template <class T>
void transpose_typed(const Permutation& p, const T* x, T* y) {
  if (p.rank == 0) {
    *y = *x;
    return;
  }
  const int last = p.rank - 1;
  int fast = last;  // the axis of y along which x is contiguous
  for (int k = 0; k < p.rank; ++k)
    if (p.from_step[k] == 1) fast = k;
  int64_t outer = 1;
  for (int k = 0; k < p.rank; ++k) outer *= k == last || k == fast ? 1 : p.extent[k];
  if (fast == last) {
    for_rows(outer, p.extent[last], [&](int64_t row) {
      int64_t from, to;
      outer_offsets(p, last, last, row, from, to);
      std::memcpy(y + to, x + from, static_cast<size_t>(p.extent[last]) * sizeof(T));
    });
    return;
  }
  const int64_t tiles = (p.extent[fast] + 15) / 16;
  for_rows(outer * tiles, 16 * p.extent[last], [&](int64_t row) {
    int64_t from, to;
    outer_offsets(p, fast, last, row / tiles, from, to);
    const int64_t j = row % tiles * 16, width = std::min<int64_t>(16, p.extent[fast] - j);
    for (int64_t i = 0; i < p.extent[last]; i += 16)
      transpose_tile(x + from + i * p.from_step[last] + j, p.from_step[last], std::min<int64_t>(16, p.extent[last] - i),
                     y + to + j * p.to_step[fast] + i, p.to_step[fast], width);
  });
}

}  // namespace

void transpose(const TransposeDims& d, size_t element, const void* x, void* y) {
  if (d.x.count() == 0) return;
  const Permutation p(d);
  const auto move = [&](auto type) {
    using T = decltype(type);
    transpose_typed(p, static_cast<const T*>(x), static_cast<T*>(y));
  };
  switch (element) {
    case 1:
      return move(uint8_t{});
    case 2:
      return move(uint16_t{});
    case 4:
      return move(uint32_t{});
    default:
      return move(uint64_t{});
  }
}

}  // namespace ranvier::kernels::cpu
