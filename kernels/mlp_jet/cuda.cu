// The network with its tangent on a CUDA device, layer after layer: products of value and tangent rows with the
// weights, their reverse, and Jacobian rows. One set of kernels for thin and wide networks and for any batch of
// networks.
#include <algorithm>

#include "kernels/common/launch.h"
#include "kernels/common/math.h"
#include "kernels/mlp_jet/mlp_jet.h"

namespace ranvier::kernels::cuda {
namespace {

constexpr int threads = 256;
constexpr int lanes = static_cast<int>(MlpDims::lanes);

/// Values and tangents of one level (inputs, a hidden layer, outputs) of all networks and points.
template <class T>
struct Level {
  T *value, *tangent;
  int64_t batch_stride, row;  ///< elements from network to network, and from point to point
  int64_t units;              ///< of all hidden layers where blocks of 16 points lie unit by unit, else 0
  int64_t width;

  __device__ int64_t at(int64_t b, int64_t i, int64_t j) const {
    const int64_t inside = units ? (i / lanes * units + j) * (2 * lanes) + i % lanes : i * row + j;
    return b * batch_stride + inside;
  }
};

/// A level whose values and tangents are arrays of their own, (batch, points, width).
template <class T>
Level<T> plain(T* value, T* tangent, int64_t points, int64_t width) {
  return {value, tangent, points * width, width, 0, width};
}

/// Hidden layer l (0 is the first) in the state's layout.
template <class T>
Level<T> hidden(const MlpDims& d, int64_t l, T* state) {
  const int64_t before = d.units_before(l), width = d.width[l + 1];
  if (d.narrow()) {
    T* const base = state + before * 2 * lanes;
    return {base, base + lanes, d.state_size(), 0, d.units(), width};
  }
  T* const base = state + 2 * d.n * before;
  return {base, base + width, d.state_size(), 2 * width, 0, width};
}

/// Gradients of hidden layer l in the workspace: (batch, points, {value, tangent}, width), layer after layer.
template <class T>
Level<T> gradients(const MlpDims& d, int64_t l, int64_t points, T* workspace) {
  const int64_t width = d.width[l + 1];
  T* const base = workspace + 2 * points * d.units_before(l);
  return {base, base + width, 2 * points * d.units(), 2 * width, 0, width};
}

/// Activations below layer l: the inputs, or hidden layer l - 1.
template <class T>
Level<const T> below(const MlpDims& d, int64_t l, const T* x, const T* dx, const T* state) {
  return l == 0 ? plain(x, dx, d.n, d.inputs()) : hidden(d, l - 1, state);
}

// ---- products ----

constexpr int tile_points = 16, tile_columns = 64, tile_depth = 32;

/// What is done to a product before it is stored.
enum class Finish { bias, bias_tanh, reverse_tanh, none };

/// out (points, columns) = in (points, depth) * weights, for value and tangent rows alike.
template <class T>
struct Product {
  Level<const T> in;
  Level<T> out;
  Level<const T> state;  ///< of `out`'s units, for reverse_tanh; of point i / per_point
  const T* weights;      ///< of the first network: element (depth q, column c) at q * depth_step + c * column_step
  int64_t depth_step, column_step, weight_stride;
  const T* bias;          ///< for the two finishes that add it
  int64_t points, valid;  ///< points written, and how many of them `in` has (zeros beyond)
  int64_t per_point;
  int64_t point_tiles, column_tiles;
};

/// A block makes 16 points by 64 columns; a thread one point and four columns, so that a pass over the depth costs two
/// broadcast reads and four reads without bank conflicts for eight multiply-adds.
template <class T, Finish finish>
__global__ void __launch_bounds__(threads) product_kernel(Product<T> p) {
  RANVIER_SHARED(T, a_value, [tile_depth][tile_points]);
  RANVIER_SHARED(T, a_tangent, [tile_depth][tile_points]);
  RANVIER_SHARED(T, w, [tile_depth][tile_columns + 1]);
  const int64_t column_tile = blockIdx.x % p.column_tiles, rest = blockIdx.x / p.column_tiles;
  const int64_t b = rest / p.point_tiles, first_point = rest % p.point_tiles * tile_points;
  const int64_t first_column = column_tile * tile_columns;
  const int x = static_cast<int>(threadIdx.x) % 16, y = static_cast<int>(threadIdx.x) / 16;
  const T* weights = p.weights + b * p.weight_stride;
  T value[4] = {}, tangent[4] = {};
  for (int64_t first = 0; first < p.in.width; first += tile_depth) {
    for (int k = static_cast<int>(threadIdx.x); k < tile_depth * tile_points; k += threads) {
      // blocked levels are contiguous over points, others over units
      const int point = p.in.units ? k % tile_points : k / tile_depth,
                depth = p.in.units ? k / tile_points : k % tile_depth;
      const int64_t i = first_point + point, j = first + depth;
      const bool inside = i < p.valid && j < p.in.width;
      const int64_t at = inside ? p.in.at(b, i, j) : 0;
      a_value[depth][point] = inside ? p.in.value[at] : T(0);
      a_tangent[depth][point] = inside ? p.in.tangent[at] : T(0);
    }
    for (int k = static_cast<int>(threadIdx.x); k < tile_depth * tile_columns; k += threads) {
      const int column = p.column_step == 1 ? k % tile_columns : k / tile_depth;
      const int depth = p.column_step == 1 ? k / tile_columns : k % tile_depth;
      const int64_t c = first_column + column, q = first + depth;
      w[depth][column] = c < p.out.width && q < p.in.width ? weights[q * p.depth_step + c * p.column_step] : T(0);
    }
    __syncthreads();
#pragma unroll 8
    for (int q = 0; q < tile_depth; ++q) {
      const T v = a_value[q][y], t = a_tangent[q][y];
#pragma unroll
      for (int m = 0; m < 4; ++m) {
        const T weight = w[q][x + 16 * m];
        value[m] = fused(weight, v, value[m]);
        tangent[m] = fused(weight, t, tangent[m]);
      }
    }
    __syncthreads();
  }
  const int64_t i = first_point + y;
  if (i >= p.points) return;
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    const int64_t c = first_column + x + 16 * m;
    if (c >= p.out.width) continue;
    T z = value[m], dz = tangent[m];
    if constexpr (finish == Finish::bias || finish == Finish::bias_tanh) z += p.bias[b * p.weight_stride + c];
    if constexpr (finish == Finish::bias_tanh) {
      z = math::tanh(z);
      dz = (T(1) - z) * (T(1) + z) * dz;
    }
    if constexpr (finish == Finish::reverse_tanh) {
      const int64_t at = p.state.at(b, i / p.per_point, c);
      const T h = p.state.value[at], s = (T(1) - h) * (T(1) + h);
      z = s * z - T(2) * h * p.state.tangent[at] * dz;
      dz = s * dz;
    }
    const int64_t at = p.out.at(b, i, c);
    p.out.value[at] = z;
    p.out.tangent[at] = dz;
  }
}

template <Finish finish, class T>
void launch_product(const MlpDims& d, Product<T> p, CudaStream stream) {
  p.point_tiles = (p.points + tile_points - 1) / tile_points;
  p.column_tiles = (p.out.width + tile_columns - 1) / tile_columns;
  p.weight_stride = d.parameters();
  launch(product_kernel<T, finish>, {grid_of(d.batch * p.point_tiles * p.column_tiles), threads, 0, stream}, p);
}

/// Gradients from the outputs (batch, points * per_point) down to the first layer's preactivations, in the workspace;
/// and those of the inputs where they are wanted. Layer l's are `gradient(l)`, those of the last layer the seeds.
template <class T>
void walk_back(const MlpDims& d, const T* theta, const T* state, Level<const T> seeds, int64_t per_point, T* workspace,
               Level<T> inputs, CudaStream stream) {
  const int64_t points = d.n * per_point;
  Level<const T> g = seeds;
  for (int64_t l = d.layers - 1; l >= 0; --l) {
    const int64_t in = d.width[l];
    Product<T> p{.in = g, .weights = theta + d.offset(l), .depth_step = in, .column_step = 1};
    p.points = p.valid = points, p.per_point = per_point;
    if (l == 0) {
      if (!inputs.value) return;
      p.out = inputs;
      return launch_product<Finish::none>(d, p, stream);
    }
    p.out = gradients(d, l - 1, points, workspace), p.state = hidden(d, l - 1, state);
    launch_product<Finish::reverse_tanh>(d, p, stream);
    g = gradients(d, l - 1, points, static_cast<const T*>(workspace));
  }
}

// ---- gradients of the parameters ----

constexpr int wgrad_tile = 32, wgrad_points = 16;

/// Points of one partial sum: enough for a block to be worth its start, few enough for many blocks. By n alone.
int64_t splits_of(const MlpDims& d) { return std::clamp<int64_t>(d.n / 128, 1, 32); }

template <class T>
struct Wgrad {
  Level<const T> g, a;  ///< of a layer's preactivations and of what is below it
  T* partial;           ///< (batch, splits, parameters), from this layer's weight on
  int64_t parameters, n, splits, out_tiles, in_tiles;
};

/// A block sums 32 outputs by 32 inputs over one split of the points, in order; column `in` is the bias, whose input is
/// 1 with tangent 0.
template <class T>
__global__ void __launch_bounds__(threads) wgrad_kernel(Wgrad<T> p) {
  RANVIER_SHARED(T, g_value, [wgrad_points][wgrad_tile]);
  RANVIER_SHARED(T, g_tangent, [wgrad_points][wgrad_tile]);
  RANVIER_SHARED(T, a_value, [wgrad_points][wgrad_tile]);
  RANVIER_SHARED(T, a_tangent, [wgrad_points][wgrad_tile]);
  int64_t rest = blockIdx.x;
  const int64_t first_in = rest % p.in_tiles * wgrad_tile;
  rest /= p.in_tiles;
  const int64_t first_out = rest % p.out_tiles * wgrad_tile;
  rest /= p.out_tiles;
  const int64_t split = rest % p.splits, b = rest / p.splits;
  const int64_t begin = p.n * split / p.splits, end = p.n * (split + 1) / p.splits;
  const int x = static_cast<int>(threadIdx.x) % wgrad_tile, y = static_cast<int>(threadIdx.x) / wgrad_tile;
  T sum[4] = {};
  for (int64_t first = begin; first < end; first += wgrad_points) {
    for (int k = static_cast<int>(threadIdx.x); k < wgrad_points * wgrad_tile; k += threads) {
      const int point = k / wgrad_tile, unit = k % wgrad_tile;
      const int64_t i = first + point, o = first_out + unit, j = first_in + unit;
      const bool with_g = i < end && o < p.g.width, with_a = i < end && j < p.a.width;
      const int64_t g_at = with_g ? p.g.at(b, i, o) : 0, a_at = with_a ? p.a.at(b, i, j) : 0;
      g_value[point][unit] = with_g ? p.g.value[g_at] : T(0);
      g_tangent[point][unit] = with_g ? p.g.tangent[g_at] : T(0);
      a_value[point][unit] = with_a ? p.a.value[a_at] : j == p.a.width ? T(1) : T(0);
      a_tangent[point][unit] = with_a ? p.a.tangent[a_at] : T(0);
    }
    __syncthreads();
    for (int i = 0; i < wgrad_points; ++i) {
      const T v = a_value[i][x], t = a_tangent[i][x];
#pragma unroll
      for (int m = 0; m < 4; ++m) sum[m] = fused(g_tangent[i][y + 8 * m], t, fused(g_value[i][y + 8 * m], v, sum[m]));
    }
    __syncthreads();
  }
  const int64_t in = p.a.width, j = first_in + x;
  T* to = p.partial + (b * p.splits + split) * p.parameters;
#pragma unroll
  for (int m = 0; m < 4; ++m) {
    const int64_t o = first_out + y + 8 * m;
    if (o < p.g.width && j <= in) to[j < in ? o * in + j : p.g.width * in + o] = sum[m];
  }
}

/// dtheta (batch, parameters): the partial sums in order.
template <class T>
__global__ void __launch_bounds__(threads)
    wgrad_sum_kernel(int64_t count, int64_t splits, int64_t parameters, const T* partial, T* dtheta) {
  for (int64_t k = int64_t{blockIdx.x} * threads + threadIdx.x; k < count; k += int64_t{gridDim.x} * threads) {
    const int64_t b = k / parameters, p = k % parameters;
    T sum = 0;
    for (int64_t split = 0; split < splits; ++split) sum += partial[(b * splits + split) * parameters + p];
    dtheta[k] = sum;
  }
}

template <class T>
int64_t gradient_elements(const MlpDims& d, int64_t per_point) {
  return d.batch * 2 * d.n * per_point * d.units();
}

// ---- Jacobian rows ----

template <class T>
struct RowsArgs {
  Level<const T> g[MlpDims::max_layers], a[MlpDims::max_layers];
  int64_t offset[MlpDims::max_layers + 1];
  int64_t layers, n, residuals, count;
  T* rows;
};

/// A thread an element of (batch, n, residuals, parameters).
template <class T>
__global__ void __launch_bounds__(threads) rows_kernel(RowsArgs<T> p) {
  const int64_t parameters = p.offset[p.layers];
  for (int64_t k = int64_t{blockIdx.x} * threads + threadIdx.x; k < p.count; k += int64_t{gridDim.x} * threads) {
    const int64_t row = k / parameters, at = k % parameters;
    const int64_t b = row / (p.n * p.residuals), seed = row % (p.n * p.residuals), i = seed / p.residuals;
    int64_t l = 0;
    while (at >= p.offset[l + 1]) ++l;
    const Level<const T>&g = p.g[l], &a = p.a[l];
    const int64_t in = a.width, inside = at - p.offset[l];
    if (inside >= g.width * in) {
      p.rows[k] = g.value[g.at(b, seed, inside - g.width * in)];
      continue;
    }
    const int64_t from = g.at(b, seed, inside / in), below = a.at(b, i, inside % in);
    p.rows[k] = fused(g.tangent[from], a.tangent[below], g.value[from] * a.value[below]);
  }
}

}  // namespace

template <class T>
void mlp_jet(const MlpDims& d, const T* x, const T* dx, const T* theta, T* y, T* dy, T* state, CudaStream stream) {
  for (int64_t l = 0; l < d.layers; ++l) {
    const int64_t in = d.width[l];
    Product<T> p{.in = below(d, l, x, dx, static_cast<const T*>(state)), .weights = theta + d.offset(l)};
    p.depth_step = 1, p.column_step = in, p.bias = theta + d.offset(l) + in * d.width[l + 1], p.per_point = 1;
    p.valid = l == 0 ? d.n : d.state_points();
    if (l + 1 == d.layers) {
      p.out = plain(y, dy, d.n, d.outputs()), p.points = d.n;
      launch_product<Finish::bias>(d, p, stream);
    } else {
      p.out = hidden(d, l, state), p.points = d.state_points();
      launch_product<Finish::bias_tanh>(d, p, stream);
    }
  }
}

template <class T>
size_t mlp_jet_backward_workspace(const MlpDims& d) {
  return static_cast<size_t>(gradient_elements<T>(d, 1) + d.batch * splits_of(d) * d.parameters()) * sizeof(T);
}

template <class T>
void mlp_jet_backward(const MlpDims& d, const T* x, const T* dx, const T* theta, const T* state, const T* gy,
                      const T* gdy, T* dtheta, T* gx, T* gdx, void* workspace, CudaStream stream) {
  T* const g = static_cast<T*>(workspace);
  T* const partial = g + gradient_elements<T>(d, 1);
  const Level<const T> seeds = plain(gy, gdy, d.n, d.outputs());
  walk_back(d, theta, state, seeds, 1, g, plain(gx, gdx, d.n, d.inputs()), stream);
  const int64_t splits = splits_of(d), parameters = d.parameters();
  for (int64_t l = 0; l < d.layers; ++l) {
    const bool last = l + 1 == d.layers;
    Wgrad<T> p{.g = last ? seeds : gradients(d, l, d.n, static_cast<const T*>(g)), .a = below(d, l, x, dx, state)};
    p.partial = partial + d.offset(l), p.parameters = parameters, p.n = d.n, p.splits = splits;
    p.out_tiles = (d.width[l + 1] + wgrad_tile - 1) / wgrad_tile;
    p.in_tiles = (d.width[l] + 1 + wgrad_tile - 1) / wgrad_tile;
    launch(wgrad_kernel<T>, {grid_of(d.batch * splits * p.out_tiles * p.in_tiles), threads, 0, stream}, p);
  }
  const int64_t count = d.batch * parameters;
  launch(wgrad_sum_kernel<T>, {blocks_for(count, threads), threads, 0, stream}, count, splits, parameters, partial,
         dtheta);
}

template <class T>
size_t mlp_jet_rows_workspace(const MlpDims& d, int64_t residuals) {
  return static_cast<size_t>(gradient_elements<T>(d, residuals)) * sizeof(T);
}

template <class T>
void mlp_jet_rows(const MlpDims& d, int64_t residuals, const T* x, const T* dx, const T* theta, const T* state,
                  const T* seeds, T* rows, void* workspace, CudaStream stream) {
  T* const g = static_cast<T*>(workspace);
  const int64_t points = d.n * residuals, outputs = d.outputs();
  const Level<const T> top{seeds, seeds + outputs, points * 2 * outputs, 2 * outputs, 0, outputs};
  walk_back(d, theta, state, top, residuals, g, Level<T>{}, stream);
  RowsArgs<T> p{.layers = d.layers, .n = d.n, .residuals = residuals};
  for (int64_t l = 0; l < d.layers; ++l) {
    p.g[l] = l + 1 == d.layers ? top : gradients(d, l, points, static_cast<const T*>(g));
    p.a[l] = below(d, l, x, dx, state);
    p.offset[l] = d.offset(l);
  }
  p.offset[d.layers] = d.parameters();
  p.count = d.batch * points * d.parameters(), p.rows = rows;
  launch(rows_kernel<T>, {blocks_for(p.count, threads), threads, 0, stream}, p);
}

#define RANVIER_MLP(T)                                                                                               \
  template void mlp_jet(const MlpDims&, const T*, const T*, const T*, T*, T*, T*, CudaStream);                       \
  template size_t mlp_jet_backward_workspace<T>(const MlpDims&);                                                     \
  template void mlp_jet_backward(const MlpDims&, const T*, const T*, const T*, const T*, const T*, const T*, T*, T*, \
                                 T*, void*, CudaStream);                                                             \
  template size_t mlp_jet_rows_workspace<T>(const MlpDims&, int64_t);                                                \
  template void mlp_jet_rows(const MlpDims&, int64_t, const T*, const T*, const T*, const T*, const T*, T*, void*,   \
                             CudaStream);
RANVIER_MLP(float)
RANVIER_MLP(double)
#undef RANVIER_MLP

}  // namespace ranvier::kernels::cuda
