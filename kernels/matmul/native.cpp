// Our matrix product: operands are packed in blocks that fit the caches and multiplied in registers, in float and
// double.
#include <algorithm>

#include "kernels/common/parallel.h"
#include "kernels/matmul/matmul.h"
#include "kernels/matmul/micro_kernel.h"

namespace ranvier::kernels {
namespace {

constexpr int64_t depth_block = 256;    // steps of a packed panel: 32 KiB, about L1
constexpr int64_t column_block = 1024;  // columns of b packed at a time
constexpr int64_t row_block = 96;       // rows of a packed at a time: 96 KiB in f32, a part of L2
constexpr int64_t most_slots = 16;

MatmulCut cut_of(const MatmulDims& d) { return matmul_cut(d, row_block, 256); }

/// One product of the batch, its operands addressed by strides: element (i, p) of op(a), (p, j) of op(b).
template <class T>
struct Product {
  int64_t m, n, k;
  const T *a, *b;
  int64_t a_row, a_step, b_step, b_column;
  Product(const MatmulDims& d, int64_t index, const T* all_a, const T* all_b)
      : m(d.m), n(d.n), k(d.k), a(all_a + index * d.m * d.k), b(all_b + index * d.k * d.n) {
    a_row = d.transpose_a ? 1 : d.k, a_step = d.transpose_a ? d.m : 1;
    b_step = d.transpose_b ? 1 : d.n, b_column = d.transpose_b ? d.k : 1;
  }
};

/// Rows of a that share one packing, of `rows` rows in all: near-equal blocks.
int64_t block_rows(int64_t rows) {
  const int64_t blocks = (rows + row_block - 1) / row_block;
  return (rows + blocks - 1) / std::max<int64_t>(blocks, 1);
}

template <class T>
int64_t packed_a_elements(int64_t rows, int64_t k) {
  return std::min(rows, row_block) * (std::min(k, depth_block) + Vec<T>::width);
}
template <class T>
int64_t packed_b_elements(int64_t columns, int64_t k) {
  return padded_columns<T>(std::min(columns, column_block)) * std::min(k, depth_block);
}

/// Rows [row, row + rows) of op(a) over depth [step, step + steps), packed into `buffer` or, where the rows already lie
/// well (short and not a power of two of pages apart), in place.
template <class T>
PanelOperand<T> rows_of(const Product<T>& x, int64_t row, int64_t rows, int64_t step, int64_t steps, T* buffer) {
  const T* from = x.a + row * x.a_row + step * x.a_step;
  if (x.a_step != 1) {  // stored (k, m): keep the depth outside
    for (int64_t p = 0; p < steps; ++p) std::copy_n(from + p * x.a_step, rows, buffer + p * rows);
    return {buffer, rows, 1, steps, 0};
  }
  if (x.k <= depth_block && x.k * sizeof(T) % 2048 != 0) return {from, x.a_row, 1, steps, 0};
  const int64_t stride = steps + Vec<T>::width;
  for (int64_t i = 0; i < rows; ++i) std::copy_n(from + i * x.a_row, steps, buffer + i * stride);
  return {buffer, stride, 1, steps, 0};
}

/// Rows [row, row_end) times packed columns [column, column_end) of the block that starts at `block_column`.
template <class T>
void multiply_rows(const Product<T>& x, int64_t row, int64_t row_end, int64_t step, int64_t steps, const T* packed_b,
                   int64_t block_column, int64_t column, int64_t column_end, T* c, bool accumulate, T* buffer) {
  const int64_t most = block_rows(row_end - row);
  for (; row < row_end; row += most) {
    const int64_t rows = std::min(most, row_end - row);
    const PanelOperand<T> operand = rows_of(x, row, rows, step, steps, buffer);
    const bool rows_contiguous = x.a_step != 1;
    for (int64_t first = column; first < column_end; first += panel_width<T>) {
      const T* panel = packed_b + (first - block_column) * steps;
      const int64_t columns = std::min(panel_width<T>, column_end - first);
      const auto multiply = rows_contiguous ? multiply_panel<T, true> : multiply_panel<T, false>;
      multiply(rows, operand, panel, c + row * x.n + first, x.n, columns, accumulate);
    }
  }
}

template <class T>
void pack_columns(const Product<T>& x, int64_t step, int64_t steps, int64_t column, int64_t columns, int64_t first,
                  T* to) {
  pack_panel(x.b + step * x.b_step + column * x.b_column, steps, columns, first, x.b_step, x.b_column,
             to + first * steps);
}

/// c = op(a) op(b) over depth [step_begin, step_end) on the calling thread.
template <class T>
void multiply_alone(const Product<T>& x, int64_t step_begin, int64_t step_end, T* c, T* a_buffer, T* b_buffer) {
  for (int64_t column = 0; column < x.n; column += column_block) {
    const int64_t columns = std::min(column_block, x.n - column);
    for (int64_t step = step_begin; step < step_end; step += depth_block) {
      const int64_t steps = std::min(depth_block, step_end - step);
      for (int64_t first = 0; first < columns; first += panel_width<T>) {
        pack_columns(x, step, steps, column, columns, first, b_buffer);
      }
      multiply_rows(x, 0, x.m, step, steps, b_buffer, column, column, column + columns, c, step > step_begin, a_buffer);
    }
  }
}

/// c = op(a) op(b) by all threads: columns packed together, then blocks of rows or columns side by side.
template <class T>
void multiply_together(const Product<T>& x, const MatmulCut& cut, T* c, T* a_buffers, int64_t slots, T* packed_b) {
  const int64_t per_slot = packed_a_elements<T>((x.m + cut.row_parts - 1) / cut.row_parts, x.k);
  for (int64_t column = 0; column < x.n; column += column_block) {
    const int64_t columns = std::min(column_block, x.n - column), panels = panel_count<T>(columns);
    const int64_t column_parts = std::min(cut.column_parts, panels);
    for (int64_t step = 0; step < x.k; step += depth_block) {
      const int64_t steps = std::min(depth_block, x.k - step);
      const int64_t pack_parts = shard_count(steps * columns, 1 << 14, panels);
      parallel_for(pack_parts, [&](int64_t part) {
        for (int64_t j = shard_begin(panels, pack_parts, part); j < shard_begin(panels, pack_parts, part + 1); ++j) {
          pack_columns(x, step, steps, column, columns, j * panel_width<T>, packed_b);
        }
      });
      parallel_for_slots(cut.row_parts * column_parts, slots, [&](int64_t part, int64_t slot) {
        const int64_t i = part / column_parts, j = part % column_parts;
        const int64_t begin = shard_begin(panels, column_parts, j) * panel_width<T>;
        const int64_t end = std::min(shard_begin(panels, column_parts, j + 1) * panel_width<T>, columns);
        multiply_rows(x, shard_begin(x.m, cut.row_parts, i), shard_begin(x.m, cut.row_parts, i + 1), step, steps,
                      packed_b, column, column + begin, column + end, c, step > 0, a_buffers + slot * per_slot);
      });
    }
  }
}

/// Adds the parts of the depth in order to the first, which is c itself.
template <class T>
void add_parts(int64_t elements, int64_t parts, const T* partial, T* c) {
  const int64_t shards = shard_count(elements, 1 << 12);
  parallel_for(shards, [&](int64_t shard) {
    for (int64_t part = 0; part < parts - 1; ++part)
      for (int64_t i = shard_begin(elements, shards, shard); i < shard_begin(elements, shards, shard + 1); ++i) {
        c[i] += partial[part * elements + i];
      }
  });
}

/// Elements of the three pieces of the workspace.
struct Layout {
  int64_t slots, a_per_slot, b_per_slot, partial;
};
template <class T>
Layout layout_of(const MatmulDims& d, const MatmulCut& cut) {
  const int64_t k = (d.k + cut.depth_parts - 1) / cut.depth_parts;
  const int64_t rows = (d.m + cut.row_parts - 1) / cut.row_parts;
  if (cut.batch_parallel || cut.depth_parts > 1) {
    const int64_t slots = std::min(cut.batch_parallel ? d.batch : cut.depth_parts, most_slots);
    return {slots, packed_a_elements<T>(rows, k), packed_b_elements<T>(d.n, k), (cut.depth_parts - 1) * d.m * d.n};
  }
  return {std::min(cut.row_parts * cut.column_parts, most_slots), packed_a_elements<T>(rows, k),
          packed_b_elements<T>(d.n, k), 0};
}

}  // namespace

template <class T>
size_t matmul_native_workspace(const MatmulDims& d) {
  if (d.c_size() == 0 || d.k == 0) return 0;
  const MatmulCut cut = cut_of(d);
  const Layout layout = layout_of<T>(d, cut);
  const bool own_b = cut.batch_parallel || cut.depth_parts > 1;
  return Carver::line + Carver::bytes<T>(layout.slots * layout.a_per_slot) +
         Carver::bytes<T>((own_b ? layout.slots : 1) * layout.b_per_slot) + Carver::bytes<T>(layout.partial);
}

template <class T>
void matmul_native(const MatmulDims& d, const T* a, const T* b, T* c, void* workspace) {
  if (d.c_size() == 0) return;
  if (d.k == 0) {
    std::fill_n(c, d.c_size(), T(0));
    return;
  }
  const MatmulCut cut = cut_of(d);
  const Layout layout = layout_of<T>(d, cut);
  const bool own_b = cut.batch_parallel || cut.depth_parts > 1;
  Carver carver(workspace);
  T* a_buffers = carver.take<T>(layout.slots * layout.a_per_slot);
  T* b_buffers = carver.take<T>((own_b ? layout.slots : 1) * layout.b_per_slot);
  T* partial = carver.take<T>(layout.partial);
  const int64_t size = d.m * d.n;
  if (cut.batch_parallel) {
    parallel_for_slots(d.batch, layout.slots, [&](int64_t i, int64_t slot) {
      multiply_alone(Product<T>(d, i, a, b), 0, d.k, c + i * size, a_buffers + slot * layout.a_per_slot,
                     b_buffers + slot * layout.b_per_slot);
    });
    return;
  }
  for (int64_t i = 0; i < d.batch; ++i, c += size) {
    const Product<T> product(d, i, a, b);
    if (cut.depth_parts == 1) {
      multiply_together(product, cut, c, a_buffers, layout.slots, b_buffers);
      continue;
    }
    parallel_for_slots(cut.depth_parts, layout.slots, [&](int64_t part, int64_t slot) {
      multiply_alone(product, shard_begin(d.k, cut.depth_parts, part), shard_begin(d.k, cut.depth_parts, part + 1),
                     part == 0 ? c : partial + (part - 1) * size, a_buffers + slot * layout.a_per_slot,
                     b_buffers + slot * layout.b_per_slot);
    });
    add_parts(size, cut.depth_parts, partial, c);
  }
}

template size_t matmul_native_workspace<float>(const MatmulDims&);
template size_t matmul_native_workspace<double>(const MatmulDims&);
template void matmul_native(const MatmulDims&, const float*, const float*, float*, void*);
template void matmul_native(const MatmulDims&, const double*, const double*, double*, void*);

}  // namespace ranvier::kernels
