// Wide networks: value and tangent rows of a chunk of points as one matrix, multiplied with packed panels of weights.
#include <algorithm>

#include "kernels/common/math.h"
#include "kernels/common/parallel.h"
#include "kernels/matmul/micro_kernel.h"
#include "kernels/mlp_jet/mlp_jet.h"

namespace ranvier::kernels::cpu {
namespace {

constexpr int64_t most_shards = 8;

/// Points of a chunk: its activations and one layer's weights fit the second-level cache.
template <class T>
constexpr int64_t chunk_points = 256 / static_cast<int64_t>(sizeof(T));

template <class T>
int64_t chunks_of(const MlpDims& d) {
  return (d.n + chunk_points<T> - 1) / chunk_points<T>;
}
template <class T>
int64_t shards_of(const MlpDims& d) {
  return shard_count(chunks_of<T>(d), 1, most_shards);
}

int64_t widest(const MlpDims& d) { return *std::max_element(d.width, d.width + d.layers + 1); }

/// Elements of all layers' packed weights, forwards (depth in) or backwards (depth out).
template <class T>
int64_t packed_size(const MlpDims& d, bool forward) {
  int64_t sum = 0;
  for (int64_t l = 0; l < d.layers; ++l)
    sum += forward ? d.width[l] * padded_columns<T>(d.width[l + 1]) : d.width[l + 1] * padded_columns<T>(d.width[l]);
  return sum;
}

/// Packs every layer's weights; `at[l]` is where layer l begins.
template <class T>
void pack_weights(const MlpDims& d, const T* theta, bool forward, T* packed, T** at) {
  for (int64_t l = 0; l < d.layers; ++l) {
    const int64_t in = d.width[l], out = d.width[l + 1];
    const int64_t depth = forward ? in : out, columns = forward ? out : in;
    at[l] = packed;
    for (int64_t first = 0; first < columns; first += panel_width<T>) {
      pack_panel(theta + d.offset(l), depth, columns, first, forward ? 1 : in, forward ? in : int64_t{1}, packed);
      packed += depth * panel_columns<T>(columns, first);
    }
  }
}

/// out (rows, columns) = a (rows, depth) * packed.
template <class T>
void multiply(int64_t rows, int64_t depth, int64_t columns, const T* a, const T* packed, T* out) {
  for (int64_t first = 0; first < columns; first += panel_width<T>) {
    const int64_t width = std::min(panel_width<T>, columns - first);
    multiply_panel<T, false>(rows, {a, depth, 1, depth, 0}, packed, out + first, columns, width, false);
    packed += depth * panel_columns<T>(columns, first);
  }
}

/// (points, width) twice to rows x0, dx0, x1, dx1, ...
template <class T>
void interleave(int64_t points, int64_t width, const T* x, const T* dx, T* rows) {
  for (int64_t i = 0; i < points; ++i) {
    std::copy_n(x + i * width, width, rows + 2 * i * width);
    std::copy_n(dx + i * width, width, rows + (2 * i + 1) * width);
  }
}
template <class T>
void separate(int64_t points, int64_t width, const T* rows, T* x, T* dx) {
  for (int64_t i = 0; i < points; ++i) {
    std::copy_n(rows + 2 * i * width, width, x + i * width);
    std::copy_n(rows + (2 * i + 1) * width, width, dx + i * width);
  }
}

template <class T>
void activate(int64_t points, int64_t width, const T* bias, T* rows) {
  for (int64_t i = 0; i < points; ++i) {
    T *value = rows + 2 * i * width, *tangent = value + width;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) {
      const T h = math::tanh(value[j] + bias[j]);
      value[j] = h;
      tangent[j] = (T(1) - h) * (T(1) + h) * tangent[j];
    }
  }
}

template <class T>
void deactivate(int64_t points, int64_t width, const T* state, T* g) {
  for (int64_t i = 0; i < points; ++i) {
    const T *h = state + 2 * i * width, *dh = h + width;
    T *value = g + 2 * i * width, *tangent = value + width;
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) {
      const T s = (T(1) - h[j]) * (T(1) + h[j]);
      value[j] = s * value[j] - T(2) * h[j] * dh[j] * tangent[j];
      tangent[j] = s * tangent[j];
    }
  }
}

/// Pieces of a workspace, the same for every pass.
template <class T>
struct Scratch {
  T *packed, *rows, *other, *panel, *partial;
  Scratch(const MlpDims& d, void* workspace, bool forward) {
    Carver carve(workspace);
    packed = carve.take<T>(packed_size<T>(d, forward));
    rows = carve.take<T>(most_shards * row_elements(d));
    other = forward ? nullptr : carve.take<T>(most_shards * row_elements(d));
    panel = forward ? nullptr : carve.take<T>(most_shards * panel_elements(d));
    partial = forward ? nullptr : carve.take<T>(most_shards * d.parameters());
  }
  static int64_t row_elements(const MlpDims& d) { return 2 * chunk_points<T> * padded_columns<T>(widest(d)); }
  static int64_t panel_elements(const MlpDims&) { return 2 * chunk_points<T> * panel_width<T>; }
  static size_t bytes(const MlpDims& d, bool forward) {
    size_t sum =
        Carver::line + Carver::bytes<T>(packed_size<T>(d, forward)) + Carver::bytes<T>(most_shards * row_elements(d));
    if (!forward)
      sum += Carver::bytes<T>(most_shards * row_elements(d)) + Carver::bytes<T>(most_shards * panel_elements(d)) +
             Carver::bytes<T>(most_shards * d.parameters());
    return sum;
  }
};

/// dW (out, in) += g^T a over the rows of a chunk; db += the value rows of g.
template <class T>
void add_layer(int64_t points, int64_t in, int64_t out, const T* g, const T* a, T* panel, T* dw) {
  for (int64_t first = 0; first < in; first += panel_width<T>) {
    pack_panel(a, 2 * points, in, first, in, int64_t{1}, panel);
    multiply_panel<T, true>(out, {g, out, 1, 2 * points, 0}, panel, dw + first, in,
                            std::min(panel_width<T>, in - first), true);
  }
  T* db = dw + out * in;
  for (int64_t i = 0; i < points; ++i)
#pragma omp simd
    for (int64_t j = 0; j < out; ++j) db[j] += g[2 * i * out + j];
}

template <class T>
struct BackwardChunk {
  const MlpDims& d;
  const T *x, *dx, *state, *gy, *gdy;
  T *gx, *gdx;
  T* const* packed;

  void operator()(int64_t first, int64_t points, T* g, T* below, T* panel, T* dtheta) const {
    interleave(points, d.outputs(), gy + first * d.outputs(), gdy + first * d.outputs(), g);
    for (int64_t l = d.layers - 1; l >= 0; --l) {
      const int64_t in = d.width[l], out = d.width[l + 1];
      const T* a = l > 0 ? state + 2 * (d.n * d.units_before(l - 1) + first * in) : below;
      if (l == 0) interleave(points, in, x + first * in, dx + first * in, below);
      add_layer(points, in, out, g, a, panel, dtheta + d.offset(l));
      if (l == 0 && !gx) return;
      multiply(2 * points, out, in, g, packed[l], below);
      if (l > 0) deactivate(points, in, a, below);
      std::swap(g, below);
    }
    separate(points, d.inputs(), g, gx + first * d.inputs(), gdx + first * d.inputs());
  }
};

template <class T>
void wide_forward(const MlpDims& d, const T* x, const T* dx, const T* theta, T* y, T* dy, T* state, void* workspace) {
  const Scratch<T> scratch(d, workspace, true);
  T* packed[MlpDims::max_layers];
  pack_weights(d, theta, true, scratch.packed, packed);
  const int64_t shards = shards_of<T>(d), chunks = chunks_of<T>(d), last = d.layers - 1;
  parallel_for(shards, [&](int64_t shard) {
    T* rows = scratch.rows + shard * Scratch<T>::row_elements(d);
    for (int64_t c = shard_begin(chunks, shards, shard); c < shard_begin(chunks, shards, shard + 1); ++c) {
      const int64_t first = c * chunk_points<T>, points = std::min(chunk_points<T>, d.n - first);
      interleave(points, d.inputs(), x + first * d.inputs(), dx + first * d.inputs(), rows);
      const T* a = rows;
      for (int64_t l = 0; l < last; ++l) {
        T* z = state + 2 * (d.n * d.units_before(l) + first * d.width[l + 1]);
        multiply(2 * points, d.width[l], d.width[l + 1], a, packed[l], z);
        activate(points, d.width[l + 1], theta + d.offset(l) + d.width[l] * d.width[l + 1], z);
        a = z;
      }
      const T* bias = theta + d.offset(last) + d.width[last] * d.outputs();
      T* out = last == 0 ? rows + 2 * points * d.inputs() : rows;
      multiply(2 * points, d.width[last], d.outputs(), a, packed[last], out);
      for (int64_t i = 0; i < points; ++i)
        for (int64_t j = 0; j < d.outputs(); ++j) out[2 * i * d.outputs() + j] += bias[j];
      separate(points, d.outputs(), out, y + first * d.outputs(), dy + first * d.outputs());
    }
  });
}

template <class T>
void wide_backward(const MlpDims& d, const T* x, const T* dx, const T* theta, const T* state, const T* gy, const T* gdy,
                   T* dtheta, T* gx, T* gdx, void* workspace) {
  const Scratch<T> scratch(d, workspace, false);
  T* packed[MlpDims::max_layers];
  pack_weights(d, theta, false, scratch.packed, packed);
  const int64_t shards = shards_of<T>(d), chunks = chunks_of<T>(d), parameters = d.parameters();
  const BackwardChunk<T> chunk{d, x, dx, state, gy, gdy, gx, gdx, packed};
  parallel_for(shards, [&](int64_t shard) {
    const int64_t rows = shard * Scratch<T>::row_elements(d);
    T* partial = scratch.partial + shard * parameters;
    std::fill(partial, partial + parameters, T(0));
    for (int64_t c = shard_begin(chunks, shards, shard); c < shard_begin(chunks, shards, shard + 1); ++c) {
      const int64_t first = c * chunk_points<T>;
      chunk(first, std::min(chunk_points<T>, d.n - first), scratch.rows + rows, scratch.other + rows,
            scratch.panel + shard * Scratch<T>::panel_elements(d), partial);
    }
  });
  const int64_t pieces = shard_count(parameters, 8192);
  parallel_for(pieces, [&](int64_t piece) {
    const int64_t begin = shard_begin(parameters, pieces, piece), end = shard_begin(parameters, pieces, piece + 1);
    std::copy(scratch.partial + begin, scratch.partial + end, dtheta + begin);
    for (int64_t shard = 1; shard < shards; ++shard)
#pragma omp simd
      for (int64_t p = begin; p < end; ++p) dtheta[p] += scratch.partial[shard * parameters + p];
  });
}

}  // namespace

template <class T>
size_t mlp_jet_workspace(const MlpDims& d) {
  return d.narrow() ? 0 : Scratch<T>::bytes(d, true);
}

template <class T>
size_t mlp_jet_backward_workspace(const MlpDims& d) {
  return d.narrow() ? mlp_jet_narrow_backward_workspace<T>(d) : Scratch<T>::bytes(d, false);
}

template <class T>
void mlp_jet(const MlpDims& d, const T* x, const T* dx, const T* theta, T* y, T* dy, T* state, void* workspace) {
  if (d.narrow()) return mlp_jet_narrow(d, x, dx, theta, y, dy, state);
  const int64_t in = d.n * d.inputs(), out = d.n * d.outputs();
  for (int64_t b = 0; b < d.batch; ++b)
    wide_forward(d, x + b * in, dx + b * in, theta + b * d.parameters(), y + b * out, dy + b * out,
                 state + b * d.state_size(), workspace);
}

template <class T>
void mlp_jet_backward(const MlpDims& d, const T* x, const T* dx, const T* theta, const T* state, const T* gy,
                      const T* gdy, T* dtheta, T* gx, T* gdx, void* workspace) {
  if (d.narrow()) return mlp_jet_narrow_backward(d, x, dx, theta, state, gy, gdy, dtheta, gx, gdx, workspace);
  const int64_t in = d.n * d.inputs(), out = d.n * d.outputs();
  for (int64_t b = 0; b < d.batch; ++b)
    wide_backward(d, x + b * in, dx + b * in, theta + b * d.parameters(), state + b * d.state_size(), gy + b * out,
                  gdy + b * out, dtheta + b * d.parameters(), gx ? gx + b * in : nullptr, gx ? gdx + b * in : nullptr,
                  workspace);
}

#define RANVIER_MLP(T)                                                                                               \
  template size_t mlp_jet_workspace<T>(const MlpDims&);                                                              \
  template size_t mlp_jet_backward_workspace<T>(const MlpDims&);                                                     \
  template void mlp_jet(const MlpDims&, const T*, const T*, const T*, T*, T*, T*, void*);                            \
  template void mlp_jet_backward(const MlpDims&, const T*, const T*, const T*, const T*, const T*, const T*, T*, T*, \
                                 T*, void*);
RANVIER_MLP(float)
RANVIER_MLP(double)
#undef RANVIER_MLP

}  // namespace ranvier::kernels::cpu
