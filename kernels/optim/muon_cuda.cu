// Muon on a CUDA device: the Newton-Schulz iterations of all matrices of a rule side by side, one launch a stage.
#include "kernels/common/launch.h"
#include "kernels/common/pack.h"
#include "kernels/optim/list.cuh"
#include "kernels/optim/muon.h"

// Stages: momentum and u with partial norms; norms; per iteration G = X X^T, P = b G + c G G, X <- a X + P X; new
// weights. X is kept with the smaller side as its rows ("wide"), transposed where the weight is tall, so that there is
// one form of each product. G and P are symmetric: only the lower triangle of tiles is computed, and mirrored.
//
// The two kernels of products are the seam for tensor cores: `symmetric_kernel` (C = alpha P P^T + beta D) and
// `apply_kernel` (Y = a X + P X, P symmetric) get the whole list and nothing else, and may be replaced by kernels that
// read X, G and P in bf16 or tf32. The order of a sum over k is ascending and never split, so the bits are those of the
// shapes alone.

namespace ranvier::kernels::cuda {
namespace {

/// A matrix on the device with its share of the workspace.
struct Matrix {
  const float *p, *g, *m;
  float *p_new, *m_new;
  float *x[2], *gram, *poly;  // (side, length) twice, (side, side) twice
  double* partial;            // of u and of p: two a piece
  float* factor;              // of u and of p
  int32_t rows, cols;
};

struct Matrices {
  static constexpr int most = 192;
  BlockMap<most> map;  // of the launch at hand
  Matrix items[most];
};
static_assert(sizeof(Matrices) < 32764 - 128, "the arguments of a kernel have 32764 bytes");

__host__ __device__ inline int side(const Matrix& m) { return m.rows < m.cols ? m.rows : m.cols; }
__host__ __device__ inline int length(const Matrix& m) { return m.rows < m.cols ? m.cols : m.rows; }
__host__ __device__ inline int64_t elements(const Matrix& m) { return int64_t{m.rows} * m.cols; }

/// Place in X of element i of the weight.
__device__ int64_t wide_place(const Matrix& m, int64_t i) {
  if (m.rows <= m.cols) return i;
  return i % m.cols * m.rows + i / m.cols;
}

struct MuonScalars {
  float momentum, weight_decay;
  bool nesterov, renormalize;
};

/// m_new, u and the partial sums of u^2 and p^2. A skipped update goes on with u = 0, so that nothing is NaN.
__global__ void __launch_bounds__(piece_threads) momentum_kernel(const __grid_constant__ Matrices list, MuonScalars c,
                                                                 const float* grad_scale, const int64_t* skip) {
  const int k = list.map.find(blockIdx.x);
  const Matrix& m = list.items[k];
  const int64_t piece = blockIdx.x - list.map.first[k], begin = piece * piece_elements;
  const int64_t end = min(begin + piece_elements, elements(m));
  const bool skipped = skip && *skip != 0;
  const float scale = grad_scale ? *grad_scale : 1.0f;
  double squares_u = 0, squares_p = 0;
  for (int64_t i = begin + threadIdx.x; i < end; i += piece_threads) {
    const float before = m.m[i], p = m.p[i];
    float moment = before, u = 0;
    if (!skipped) {
      const float g = product(scale, m.g[i]);
      moment = product(c.momentum, before) + g;
      u = c.nesterov ? g + product(c.momentum, moment) : moment;
    }
    m.m_new[i] = moment;
    m.x[0][wide_place(m, i)] = u;
    squares_u += product(double{u}, double{u});
    squares_p += product(double{p}, double{p});
  }
  squares_u = sum_over_block(squares_u);
  squares_p = sum_over_block(squares_p);
  if (threadIdx.x == 0) m.partial[2 * piece] = squares_u, m.partial[2 * piece + 1] = squares_p;
}

/// factor = {1 / (|u| + 1e-7), sqrt(rows) / |p| or 1}; a block a matrix.
__global__ void __launch_bounds__(piece_threads) norm_kernel(const __grid_constant__ Matrices list, MuonScalars c) {
  const Matrix& m = list.items[blockIdx.x];
  double sums[2] = {0, 0};
  const int64_t pieces = pieces_of(elements(m));
  for (int64_t piece = threadIdx.x; piece < pieces; piece += piece_threads)
#pragma unroll
    for (int which = 0; which < 2; ++which) sums[which] += m.partial[2 * piece + which];
#pragma unroll
  for (int which = 0; which < 2; ++which) sums[which] = sum_over_block(sums[which]);
  if (threadIdx.x != 0) return;
  m.factor[0] = static_cast<float>(quotient(1.0, root(sums[0]) + 1e-7));
  m.factor[1] = c.renormalize ? static_cast<float>(root(quotient(static_cast<double>(m.rows), sums[1]))) : 1.0f;
}

// ---- products: 64 x 64 tiles of C, 4 x 4 a thread, 16 of k at a time through shared memory in f32 ----

constexpr int tile = 64, depth = 16, gemm_threads = 256, edge = 4;
constexpr int padded = tile + 4;  // rows of a tile start on 16 bytes, and columns spread over the banks
constexpr int tiles_of(int n) { return (n + tile - 1) / tile; }

struct alignas(16) Panel {
  float at[depth][padded];
};

/// This thread's elements of a panel on their way from global memory: they are fetched while the panel before is
/// multiplied, since a list of few matrices has too few blocks to hide that latency behind each other.
struct Fetched {
  static constexpr int count = tile * depth / gemm_threads;
  float value[count];

  /// panel[k][i] = factor * from[first + i][k0 + k], rows of `end` elements; 0 outside.
  __device__ void rows(const float* from, int first, int rows, int k0, int end, float factor) {
#pragma unroll
    for (int q = 0; q < count; ++q) {
      const int i = first + row_i(q), k = k0 + row_k(q);
      value[q] = i < rows && k < end ? product(factor, from[int64_t{i} * end + k]) : 0.0f;
    }
  }
  /// panel[k][i] = factor * from[k0 + k][first + i], rows of `stride` elements; 0 outside.
  __device__ void columns(const float* from, int stride, int first, int k0, int end, float factor) {
#pragma unroll
    for (int q = 0; q < count; ++q) {
      const int i = first + column_i(q), k = k0 + column_k(q);
      value[q] = i < stride && k < end ? product(factor, from[int64_t{k} * stride + i]) : 0.0f;
    }
  }
  __device__ void put_rows(Panel& panel) const {
#pragma unroll
    for (int q = 0; q < count; ++q) panel.at[row_k(q)][row_i(q)] = value[q];
  }
  __device__ void put_columns(Panel& panel) const {
#pragma unroll
    for (int q = 0; q < count; ++q) panel.at[column_k(q)][column_i(q)] = value[q];
  }

 private:
  __device__ static int element(int q) { return static_cast<int>(threadIdx.x) + q * gemm_threads; }
  __device__ static int row_i(int q) { return element(q) / depth; }
  __device__ static int row_k(int q) { return element(q) % depth; }
  __device__ static int column_i(int q) { return element(q) % tile; }
  __device__ static int column_k(int q) { return element(q) / tile; }
};

/// sum += a^T b over the depth of two panels, this thread's 4 x 4.
__device__ void multiply(const Panel& a, const Panel& b, float (&sum)[edge][edge]) {
  const int y = static_cast<int>(threadIdx.x) / 16 * edge, x = static_cast<int>(threadIdx.x) % 16 * edge;
#pragma unroll
  for (int k = 0; k < depth; ++k) {
    const auto left = load_pack<edge>(&a.at[k][y]), right = load_pack<edge>(&b.at[k][x]);
#pragma unroll
    for (int i = 0; i < edge; ++i)
#pragma unroll
      for (int j = 0; j < edge; ++j) sum[i][j] = fused(left.v[i], right.v[j], sum[i][j]);
  }
}

/// Row and column of tile `t` of a lower triangle, numbered by rows.
struct Triangle {
  int row = 0, column = 0;
  __device__ explicit Triangle(int t) {
    while ((row + 1) * (row + 2) / 2 <= t) ++row;
    column = t - row * (row + 1) / 2;
  }
};

enum class Product { gram, poly };

/// gram: G = X X^T with X scaled by `factor` in the first iteration. poly: P = b G + c G G, where G G^T = G G.
template <Product what>
__global__ void __launch_bounds__(gemm_threads)
    symmetric_kernel(const __grid_constant__ Matrices list, int from, bool scaled, float alpha, float beta) {
  RANVIER_SHARED(Panel, a, );
  RANVIER_SHARED(Panel, b, );
  const int item = list.map.find(blockIdx.x);
  const Matrix& m = list.items[item];
  const Triangle t(static_cast<int>(blockIdx.x - list.map.first[item]));
  const int n = side(m), inner = what == Product::gram ? length(m) : n;
  const float* operand = what == Product::gram ? m.x[from] : m.gram;
  const float factor = scaled ? m.factor[0] : 1.0f;
  float sum[edge][edge] = {};
  Fetched left, right;
  const auto fetch = [&](int k0) {
    left.rows(operand, t.row * tile, n, k0, inner, factor);
    right.rows(operand, t.column * tile, n, k0, inner, factor);
  };
  fetch(0);
  for (int k0 = 0; k0 < inner; k0 += depth) {
    left.put_rows(a), right.put_rows(b);
    __syncthreads();
    fetch(k0 + depth);
    multiply(a, b, sum);
    __syncthreads();
  }
  float* result = what == Product::gram ? m.gram : m.poly;
  const int row = t.row * tile + static_cast<int>(threadIdx.x) / 16 * edge;
  const int column = t.column * tile + static_cast<int>(threadIdx.x) % 16 * edge;
#pragma unroll
  for (int i = 0; i < edge; ++i)
#pragma unroll
    for (int j = 0; j < edge; ++j) {
      if (row + i >= n || column + j >= n) continue;
      const int64_t at = int64_t{row + i} * n + column + j, mirrored = int64_t{column + j} * n + row + i;
      float value = product(alpha, sum[i][j]);
      if constexpr (what == Product::poly) value = product(beta, m.gram[at]) + value;
      result[at] = value;
      if (t.row != t.column) result[mirrored] = value;
    }
}

/// Y = a X + P X, X scaled by its factor in the first iteration.
__global__ void __launch_bounds__(gemm_threads)
    apply_kernel(const __grid_constant__ Matrices list, int from, bool scaled, float weight) {
  RANVIER_SHARED(Panel, a, );
  RANVIER_SHARED(Panel, b, );
  const int item = list.map.find(blockIdx.x);
  const Matrix& m = list.items[item];
  const int n = side(m), wide = length(m), across = tiles_of(wide);
  const int t = static_cast<int>(blockIdx.x - list.map.first[item]);
  const int first_row = t / across * tile, first_column = t % across * tile;
  const float factor = scaled ? m.factor[0] : 1.0f;
  const float* x = m.x[from];
  float* y = m.x[1 - from];
  float sum[edge][edge] = {};
  Fetched left, right;
  const auto fetch = [&](int k0) {
    left.columns(m.poly, n, first_row, k0, n, 1.0f);  // P is symmetric: its columns are its rows
    right.columns(x, wide, first_column, k0, n, factor);
  };
  fetch(0);
  for (int k0 = 0; k0 < n; k0 += depth) {
    left.put_columns(a), right.put_columns(b);
    __syncthreads();
    fetch(k0 + depth);
    multiply(a, b, sum);
    __syncthreads();
  }
  const int row = first_row + static_cast<int>(threadIdx.x) / 16 * edge;
  const int column = first_column + static_cast<int>(threadIdx.x) % 16 * edge;
#pragma unroll
  for (int i = 0; i < edge; ++i)
#pragma unroll
    for (int j = 0; j < edge; ++j) {
      if (row + i >= n || column + j >= wide) continue;
      const int64_t at = int64_t{row + i} * wide + column + j;
      y[at] = product(weight, product(factor, x[at])) + sum[i][j];
    }
}

/// p_new = s (1 - lr decay) p - lr X.
__global__ void __launch_bounds__(piece_threads)
    weights_kernel(const __grid_constant__ Matrices list, MuonScalars c, int from, bool scaled, const float* lr,
                   const int64_t* skip) {
  const int k = list.map.find(blockIdx.x);
  const Matrix& m = list.items[k];
  const int64_t begin = (blockIdx.x - list.map.first[k]) * piece_elements;
  const int64_t end = min(begin + piece_elements, elements(m));
  const bool skipped = skip && *skip != 0;
  const float rate = *lr, keep = 1.0f - product(rate, c.weight_decay), factor = scaled ? m.factor[0] : 1.0f;
  for (int64_t i = begin + threadIdx.x; i < end; i += piece_threads) {
    const float p = m.p[i], x = product(factor, m.x[from][wide_place(m, i)]);
    m.p_new[i] = skipped ? p : product(product(p, m.factor[1]), keep) - product(rate, x);
  }
}

/// Launches `kernel` with blocks_of(matrix) blocks a matrix.
template <class Kernel, class Blocks, class... Args>
void launch_over(Matrices& list, Kernel kernel, int threads, CudaStream stream, Blocks&& blocks_of, Args... args) {
  const int count = list.map.count;
  list.map = {};
  for (int k = 0; k < count; ++k) list.map.add(blocks_of(list.items[k]));
  launch(kernel, {list.map.blocks(), static_cast<unsigned>(threads), 0, stream}, list, args...);
}

void step(Matrices& list, const MuonConfig& config, const float* lr, const float* grad_scale, const int64_t* skip,
          CudaStream stream) {
  const MuonScalars scalars{static_cast<float>(config.momentum), static_cast<float>(config.weight_decay),
                            config.nesterov, config.renormalize};
  const auto pieces = [](const Matrix& m) { return pieces_of(elements(m)); };
  const auto triangle = [](const Matrix& m) {
    const int64_t across = tiles_of(side(m));
    return across * (across + 1) / 2;
  };
  const auto all_tiles = [](const Matrix& m) { return int64_t{tiles_of(side(m))} * tiles_of(length(m)); };
  launch_over(list, momentum_kernel, piece_threads, stream, pieces, scalars, grad_scale, skip);
  launch_over(
      list, norm_kernel, piece_threads, stream, [](const Matrix&) { return 1; }, scalars);
  const NewtonSchulz& ns = config.newton_schulz;
  const auto a = static_cast<float>(ns.a), b = static_cast<float>(ns.b), c = static_cast<float>(ns.c);
  int from = 0;
  for (int iteration = 0; iteration < ns.iterations; ++iteration, from = 1 - from) {
    const bool scaled = iteration == 0;
    launch_over(list, symmetric_kernel<Product::gram>, gemm_threads, stream, triangle, from, scaled, 1.0f, 0.0f);
    launch_over(list, symmetric_kernel<Product::poly>, gemm_threads, stream, triangle, from, false, c, b);
    launch_over(list, apply_kernel, gemm_threads, stream, all_tiles, from, scaled, a);
  }
  launch_over(list, weights_kernel, piece_threads, stream, pieces, scalars, from, ns.iterations == 0, lr, skip);
}

/// Rounded up to 16 bytes.
constexpr int64_t whole(int64_t floats) { return (floats + 3) / 4 * 4; }

}  // namespace

int64_t muon_workspace(int64_t rows, int64_t cols) {
  const int64_t n = std::min(rows, cols);
  return 2 * whole(rows * cols) + 2 * whole(n * n) + whole(4 * pieces_of(rows * cols)) + 4;
}

void muon(const MuonItem* items, int64_t count, const MuonConfig& config, const float* lr, const float* grad_scale,
          const int64_t* skip, float* workspace, CudaStream stream) {
  float* free = workspace;
  const auto take = [&](int64_t floats) { return std::exchange(free, free + whole(floats)); };
  for (int64_t begin = 0; begin < count; begin += Matrices::most) {
    Matrices list;
    const int64_t end = std::min<int64_t>(count, begin + Matrices::most);
    for (int64_t k = begin; k < end; ++k) {
      const MuonItem& item = items[k];
      const int64_t size = item.rows * item.cols, n = std::min(item.rows, item.cols);
      if (size == 0) continue;
      Matrix& m = list.items[list.map.count];
      m = {item.p, item.g, item.m, item.p_new, item.m_new};
      for (float*& x : m.x) x = take(size);
      m.gram = take(n * n), m.poly = take(n * n);
      m.partial = reinterpret_cast<double*>(take(4 * pieces_of(size)));
      m.factor = take(2);
      m.rows = static_cast<int32_t>(item.rows), m.cols = static_cast<int32_t>(item.cols);
      list.map.add(0);
    }
    step(list, config, lr, grad_scale, skip, stream);
  }
}

}  // namespace ranvier::kernels::cuda
