// Passes over wide networks: value and tangent rows of a chunk of points as one matrix, layer after layer. How matrices
// are multiplied is a parameter.
#pragma once
#include <algorithm>

#include "kernels/common/math.h"
#include "kernels/common/parallel.h"
#include "kernels/matmul/micro_kernel.h"
#include "kernels/mlp_jet/mlp_jet.h"

namespace ranvier::kernels::cpu::wide {

constexpr int64_t most_shards = 8;

/// Points of a chunk: its activations and one layer's weights fit the second-level cache.
template <class T>
constexpr int64_t chunk_points = 256 / static_cast<int64_t>(sizeof(T));

inline int64_t widest(const MlpDims& d) { return *std::max_element(d.width, d.width + d.layers + 1); }

/// Products by packed panels of weights, forwards (columns out) or backwards (columns in). Its like are made once a
/// pass by the calling thread, and a `Thread` in each of the threads that use it.
template <class T>
class Panels {
 public:
  Panels(const MlpDims& d, const T* theta, bool forward, Carver& carve) : d_(d), forward_(forward) {
    for (int64_t l = 0; l < d.layers; ++l) {
      const int64_t in = d.width[l];
      T* packed = carve.take<T>(packed_size(d, l, forward));
      at_[l] = packed;
      for (int64_t first = 0; first < columns(l); first += panel_width<T>) {
        pack_panel(theta + d.offset(l), depth(l), columns(l), first, forward ? 1 : in, forward ? in : int64_t{1},
                   packed);
        packed += depth(l) * panel_columns<T>(columns(l), first);
      }
    }
  }
  static size_t bytes(const MlpDims& d, bool forward) {
    size_t sum = 0;
    for (int64_t l = 0; l < d.layers; ++l) sum += Carver::bytes<T>(packed_size(d, l, forward));
    return sum;
  }

  /// What one thread needs beside.
  struct Thread {
    T* panel;
    Thread(const MlpDims&, bool forward, Carver& carve) : panel(forward ? nullptr : carve.take<T>(elements)) {}
    static size_t bytes(const MlpDims&, bool forward) { return forward ? 0 : Carver::bytes<T>(elements); }
    static constexpr int64_t elements = 2 * chunk_points<T> * panel_width<T>;
  };

  /// z (rows, out) = a (rows, in) * W^T of layer l. Of forward products.
  void forward(int64_t l, int64_t rows, const T* a, T* z, Thread&) const { multiply(l, rows, a, z); }
  /// dw (out, in) += g^T a, and below (rows, in) = g (rows, out) * W unless below is null. Of backward products.
  void backward(int64_t l, int64_t rows, const T* g, const T* a, T* dw, T* below, Thread& thread) const {
    const int64_t in = d_.width[l], out = d_.width[l + 1];
    for (int64_t first = 0; first < in; first += panel_width<T>) {
      pack_panel(a, rows, in, first, in, int64_t{1}, thread.panel);
      multiply_panel<T, true>(out, {g, out, 1, rows, 0}, thread.panel, dw + first, in,
                              std::min(panel_width<T>, in - first), true);
    }
    if (below) multiply(l, rows, g, below);
  }

 private:
  void multiply(int64_t l, int64_t rows, const T* from, T* to) const {
    const T* packed = at_[l];
    for (int64_t first = 0; first < columns(l); first += panel_width<T>) {
      const int64_t width = std::min(panel_width<T>, columns(l) - first);
      multiply_panel<T, false>(rows, {from, depth(l), 1, depth(l), 0}, packed, to + first, columns(l), width, false);
      packed += depth(l) * panel_columns<T>(columns(l), first);
    }
  }
  static int64_t packed_size(const MlpDims& d, int64_t l, bool forward) {
    return d.width[forward ? l : l + 1] * padded_columns<T>(d.width[forward ? l + 1 : l]);
  }
  int64_t depth(int64_t l) const { return d_.width[forward_ ? l : l + 1]; }
  int64_t columns(int64_t l) const { return d_.width[forward_ ? l + 1 : l]; }

  const MlpDims& d_;
  bool forward_;
  const T* at_[MlpDims::max_layers];
};

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

/// to (width) += the value rows.
template <class T>
void add_values(int64_t points, int64_t width, const T* rows, T* to) {
  for (int64_t i = 0; i < points; ++i)
#pragma omp simd
    for (int64_t j = 0; j < width; ++j) to[j] += rows[2 * i * width + j];
}
template <class T>
void add_to_values(int64_t points, int64_t width, const T* bias, T* rows) {
  for (int64_t i = 0; i < points; ++i)
    for (int64_t j = 0; j < width; ++j) rows[2 * i * width + j] += bias[j];
}

/// A thread's memory: two matrices of a chunk's rows, one for the inputs' gradients, and what `Products` needs.
template <class T, class Products>
struct ThreadMemory {
  T *rows, *other, *lowest;
  typename Products::Thread thread;
  ThreadMemory(const MlpDims& d, bool forward, Carver carve)
      : rows(carve.take<T>(elements(d))),
        other(carve.take<T>(elements(d))),
        lowest(forward ? nullptr : carve.take<T>(elements(d))),
        thread(d, forward, carve) {}
  static size_t bytes(const MlpDims& d, bool forward) {
    return (forward ? 2 : 3) * Carver::bytes<T>(elements(d)) + Products::Thread::bytes(d, forward);
  }
  static int64_t elements(const MlpDims& d) { return 2 * chunk_points<T> * padded_columns<T>(widest(d)); }
};

/// `mlp_jet` and `mlp_jet_backward` of wide networks.
template <class T, class Products>
class Passes {
 public:
  static size_t forward_workspace(const MlpDims& d) {
    return Carver::line + Products::bytes(d, true) + most_shards * ThreadMemory<T, Products>::bytes(d, true);
  }
  static size_t backward_workspace(const MlpDims& d) {
    return Carver::line + Products::bytes(d, false) + most_shards * ThreadMemory<T, Products>::bytes(d, false) +
           Carver::bytes<T>(most_shards * d.parameters());
  }

  static void forward(const MlpDims& d, const T* x, const T* dx, const T* theta, T* y, T* dy, T* state,
                      void* workspace) {
    const int64_t in = d.n * d.inputs(), out = d.n * d.outputs();
    for (int64_t b = 0; b < d.batch; ++b)
      network_forward(d, x + b * in, dx + b * in, theta + b * d.parameters(), y + b * out, dy + b * out,
                      state + b * d.state_size(), workspace);
  }
  static void backward(const MlpDims& d, const T* x, const T* dx, const T* theta, const T* state, const T* gy,
                       const T* gdy, T* dtheta, T* gx, T* gdx, void* workspace) {
    const int64_t in = d.n * d.inputs(), out = d.n * d.outputs();
    for (int64_t b = 0; b < d.batch; ++b)
      network_backward(d, x + b * in, dx + b * in, theta + b * d.parameters(), state + b * d.state_size(), gy + b * out,
                       gdy + b * out, dtheta + b * d.parameters(), gx ? gx + b * in : nullptr,
                       gx ? gdx + b * in : nullptr, workspace);
  }

 private:
  using Memory = ThreadMemory<T, Products>;

  static void network_forward(const MlpDims& d, const T* x, const T* dx, const T* theta, T* y, T* dy, T* state,
                              void* workspace) {
    Carver carve(workspace);
    const Products products(d, theta, true, carve);
    for_shards(d, true, carve, [&](int64_t, Memory& memory, int64_t begin, int64_t end) {
      for (int64_t first = begin; first < end; first += chunk_points<T>) {
        const int64_t points = std::min(chunk_points<T>, end - first);
        interleave(points, d.inputs(), x + first * d.inputs(), dx + first * d.inputs(), memory.rows);
        const T* a = memory.rows;
        const int64_t last = d.layers - 1;
        for (int64_t l = 0; l < last; ++l) {
          T* z = state + 2 * (d.n * d.units_before(l) + first * d.width[l + 1]);
          products.forward(l, 2 * points, a, z, memory.thread);
          activate(points, d.width[l + 1], theta + d.offset(l) + d.width[l] * d.width[l + 1], z);
          a = z;
        }
        T* out = memory.other;
        products.forward(last, 2 * points, a, out, memory.thread);
        add_to_values(points, d.outputs(), theta + d.offset(last) + d.width[last] * d.outputs(), out);
        separate(points, d.outputs(), out, y + first * d.outputs(), dy + first * d.outputs());
      }
    });
  }

  static void network_backward(const MlpDims& d, const T* x, const T* dx, const T* theta, const T* state, const T* gy,
                               const T* gdy, T* dtheta, T* gx, T* gdx, void* workspace) {
    Carver carve(workspace);
    const Products products(d, theta, false, carve);
    const int64_t parameters = d.parameters();
    T* partial = carve.take<T>(most_shards * parameters);
    for_shards(d, false, carve, [&](int64_t shard, Memory& memory, int64_t begin, int64_t end) {
      T* sums = partial + shard * parameters;
      std::fill(sums, sums + parameters, T(0));
      for (int64_t first = begin; first < end; first += chunk_points<T>) {
        const int64_t points = std::min(chunk_points<T>, end - first);
        interleave(points, d.outputs(), gy + first * d.outputs(), gdy + first * d.outputs(), memory.rows);
        T* g = memory.rows;
        for (int64_t l = d.layers - 1; l > 0; --l) {
          const T* a = state + 2 * (d.n * d.units_before(l - 1) + first * d.width[l]);
          T* below = g == memory.rows ? memory.other : memory.rows;
          backward_layer(d, products, l, points, g, a, sums, below, memory);
          deactivate(points, d.width[l], a, below);
          g = below;
        }
        T* a = g == memory.rows ? memory.other : memory.rows;
        interleave(points, d.inputs(), x + first * d.inputs(), dx + first * d.inputs(), a);
        backward_layer(d, products, 0, points, g, a, sums, gx ? memory.lowest : nullptr, memory);
        if (gx) separate(points, d.inputs(), memory.lowest, gx + first * d.inputs(), gdx + first * d.inputs());
      }
    });
    add_shards(shards_of(d), parameters, partial, dtheta);
  }

  static void backward_layer(const MlpDims& d, const Products& products, int64_t l, int64_t points, const T* g,
                             const T* a, T* sums, T* below, Memory& memory) {
    T* dw = sums + d.offset(l);
    products.backward(l, 2 * points, g, a, dw, below, memory.thread);
    add_values(points, d.width[l + 1], g, dw + d.width[l] * d.width[l + 1]);
  }

  static int64_t chunks_of(const MlpDims& d) { return (d.n + chunk_points<T> - 1) / chunk_points<T>; }
  static int64_t shards_of(const MlpDims& d) { return shard_count(chunks_of(d), 1, most_shards); }

  /// Calls body(shard, its memory, first point, end of its points), shards side by side; only the last has no whole
  /// chunks.
  template <class Body>
  static void for_shards(const MlpDims& d, bool forward, Carver& carve, Body&& body) {
    const int64_t shards = shards_of(d), chunks = chunks_of(d);
    const auto bytes = static_cast<int64_t>(Memory::bytes(d, forward));
    char* memory = carve.take<char>(most_shards * bytes);
    parallel_for(shards, [&](int64_t shard) {
      Memory mine(d, forward, Carver(memory + shard * bytes));
      body(shard, mine, shard_begin(chunks, shards, shard) * chunk_points<T>,
           std::min(d.n, shard_begin(chunks, shards, shard + 1) * chunk_points<T>));
    });
  }

  static void add_shards(int64_t shards, int64_t parameters, const T* partial, T* dtheta) {
    const int64_t pieces = shard_count(parameters, 8192);
    parallel_for(pieces, [&](int64_t piece) {
      const int64_t begin = shard_begin(parameters, pieces, piece), end = shard_begin(parameters, pieces, piece + 1);
      std::copy(partial + begin, partial + end, dtheta + begin);
      for (int64_t shard = 1; shard < shards; ++shard)
#pragma omp simd
        for (int64_t p = begin; p < end; ++p) dtheta[p] += partial[shard * parameters + p];
    });
  }
};

}  // namespace ranvier::kernels::cpu::wide
