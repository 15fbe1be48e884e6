// Thin networks: sixteen points side by side in registers, parameters broadcast, everything in the first-level cache.
#include <algorithm>

#include "kernels/common/math.h"
#include "kernels/common/parallel.h"
#include "kernels/matmul/vector.h"
#include "kernels/mlp_jet/mlp_jet.h"

namespace ranvier::kernels::cpu {
namespace {

constexpr int64_t lanes = MlpDims::lanes;
constexpr int64_t most_width = 32;
constexpr int64_t blocks_per_shard = 32;  // 512 points: fewer are not worth a second thread

/// Sixteen values in registers.
template <class T>
struct Points {
  static constexpr int count = lanes / Vec<T>::width;
  typename Vec<T>::Reg r[count];

  static RANVIER_FLATTEN Points splat(T v) {
    Points p;
    for (int k = 0; k < count; ++k) p.r[k] = Vec<T>::splat(v);
    return p;
  }
  static RANVIER_FLATTEN Points load(const T* from) {
    Points p;
    for (int k = 0; k < count; ++k) p.r[k] = Vec<T>::load(from + k * Vec<T>::width);
    return p;
  }
  RANVIER_FLATTEN void store(T* to) const {
    for (int k = 0; k < count; ++k) Vec<T>::store(to + k * Vec<T>::width, r[k]);
  }
  /// this += a b.
  RANVIER_FLATTEN void add_product(T a, const Points& b) {
    const auto s = Vec<T>::splat(a);
    for (int k = 0; k < count; ++k) r[k] = Vec<T>::fma(s, b.r[k], r[k]);
  }
  RANVIER_FLATTEN void add_product(const Points& a, const Points& b) {
    for (int k = 0; k < count; ++k) r[k] = Vec<T>::fma(a.r[k], b.r[k], r[k]);
  }
};

/// Values and tangents of the inputs of sixteen points, turned to (input, {x, dx}, 16); zeros beyond n.
template <class T>
void load_block(const MlpDims& d, const T* x, const T* dx, int64_t width, int64_t block, T* to) {
  const int64_t first = block * lanes, count = std::min(lanes, d.n - first);
  for (int64_t f = 0; f < width; ++f)
    for (int64_t i = 0; i < lanes; ++i) {
      to[f * 2 * lanes + i] = i < count ? x[(first + i) * width + f] : T(0);
      to[(f * 2 + 1) * lanes + i] = i < count ? dx[(first + i) * width + f] : T(0);
    }
}

template <class T>
void store_block(const MlpDims& d, const T* from, int64_t width, int64_t block, T* x, T* dx) {
  const int64_t first = block * lanes, count = std::min(lanes, d.n - first);
  for (int64_t i = 0; i < count; ++i)
    for (int64_t f = 0; f < width; ++f) {
      x[(first + i) * width + f] = from[f * 2 * lanes + i];
      dx[(first + i) * width + f] = from[(f * 2 + 1) * lanes + i];
    }
}

/// z = W a + b and its tangent for a layer of sixteen points.
template <class T>
void affine(const T* w, int64_t in, int64_t out, const T* a, T* z) {
  for (int64_t j = 0; j < out; ++j) {
    Points<T> value = Points<T>::splat(w[out * in + j]), tangent = Points<T>::splat(T(0));
    for (int64_t k = 0; k < in; ++k) {
      value.add_product(w[j * in + k], Points<T>::load(a + k * 2 * lanes));
      tangent.add_product(w[j * in + k], Points<T>::load(a + (k * 2 + 1) * lanes));
    }
    value.store(z + j * 2 * lanes);
    tangent.store(z + (j * 2 + 1) * lanes);
  }
}

template <class T>
void activate(int64_t units, T* z) {
  for (int64_t j = 0; j < units; ++j) {
    T *value = z + j * 2 * lanes, *tangent = value + lanes;
#pragma omp simd
    for (int64_t i = 0; i < lanes; ++i) {
      const T h = math::tanh(value[i]);
      value[i] = h;
      tangent[i] = (T(1) - h) * (T(1) + h) * tangent[i];
    }
  }
}

/// dW (out, in), db (out), sixteen partial sums each: += gz a^T + gdz da^T.
template <class T>
void add_layer(int64_t in, int64_t out, const T* g, const T* a, T* sums) {
  for (int64_t j = 0; j < out; ++j) {
    const Points<T> gz = Points<T>::load(g + j * 2 * lanes), gdz = Points<T>::load(g + (j * 2 + 1) * lanes);
    for (int64_t k = 0; k < in; ++k) {
      T* at = sums + (j * in + k) * lanes;
      Points<T> sum = Points<T>::load(at);
      sum.add_product(gz, Points<T>::load(a + k * 2 * lanes));
      sum.add_product(gdz, Points<T>::load(a + (k * 2 + 1) * lanes));
      sum.store(at);
    }
    T* at = sums + (out * in + j) * lanes;
    Points<T> sum = Points<T>::load(at);
    sum.add_product(T(1), gz);
    sum.store(at);
  }
}

/// Gradients of a layer's inputs: W^T g.
template <class T>
void transposed(const T* w, int64_t in, int64_t out, const T* g, T* below) {
  for (int64_t k = 0; k < in; ++k) {
    Points<T> value = Points<T>::splat(T(0)), tangent = value;
    for (int64_t j = 0; j < out; ++j) {
      value.add_product(w[j * in + k], Points<T>::load(g + j * 2 * lanes));
      tangent.add_product(w[j * in + k], Points<T>::load(g + (j * 2 + 1) * lanes));
    }
    value.store(below + k * 2 * lanes);
    tangent.store(below + (k * 2 + 1) * lanes);
  }
}

/// (dL/dh, dL/dh') to (dL/dz, dL/dz') in place.
template <class T>
void deactivate(int64_t units, const T* state, T* g) {
  for (int64_t j = 0; j < units; ++j) {
    const T *h = state + j * 2 * lanes, *dh = h + lanes;
    T *value = g + j * 2 * lanes, *tangent = value + lanes;
#pragma omp simd
    for (int64_t i = 0; i < lanes; ++i) {
      const T s = (T(1) - h[i]) * (T(1) + h[i]);
      value[i] = s * value[i] - T(2) * h[i] * dh[i] * tangent[i];
      tangent[i] = s * tangent[i];
    }
  }
}

template <class T>
void backward_block(const MlpDims& d, int64_t block, const T* x, const T* dx, const T* theta, const T* state,
                    const T* gy, const T* gdy, T* sums, T* gx, T* gdx) {
  alignas(64) T first[2 * most_width * lanes], second[2 * most_width * lanes], input[2 * 4 * lanes];
  T *g = first, *below = second;
  const T* at = state + block * d.units() * 2 * lanes;
  load_block(d, gy, gdy, d.outputs(), block, g);
  load_block(d, x, dx, d.inputs(), block, input);
  for (int64_t l = d.layers - 1; l >= 0; --l) {
    const int64_t in = d.width[l], out = d.width[l + 1];
    const T* a = l == 0 ? input : at + d.units_before(l - 1) * 2 * lanes;
    add_layer(in, out, g, a, sums + d.offset(l) * lanes);
    if (l == 0 && !gx) break;
    transposed(theta + d.offset(l), in, out, g, below);
    if (l > 0) deactivate(in, a, below);
    std::swap(g, below);
  }
  if (gx) store_block(d, g, d.inputs(), block, gx, gdx);
}

int64_t shards_of(const MlpDims& d) { return shard_count(d.blocks(), blocks_per_shard, 8); }

}  // namespace

template <class T>
void mlp_jet_narrow(const MlpDims& d, const T* x, const T* dx, const T* theta, T* y, T* dy, T* state) {
  const int64_t shards = shards_of(d), last = d.layers - 1;
  parallel_for(d.batch * shards, [&](int64_t task) {
    const int64_t b = task / shards, shard = task % shards;
    const T *xb = x + b * d.n * d.inputs(), *dxb = dx + b * d.n * d.inputs(), *tb = theta + b * d.parameters();
    alignas(64) T input[2 * 4 * lanes], output[2 * 4 * lanes];
    for (int64_t block = shard_begin(d.blocks(), shards, shard); block < shard_begin(d.blocks(), shards, shard + 1);
         ++block) {
      load_block(d, xb, dxb, d.inputs(), block, input);
      T* at = state + b * d.state_size() + block * d.units() * 2 * lanes;
      const T* a = input;
      for (int64_t l = 0; l < last; ++l) {
        T* z = at + d.units_before(l) * 2 * lanes;
        affine(tb + d.offset(l), d.width[l], d.width[l + 1], a, z);
        activate(d.width[l + 1], z);
        a = z;
      }
      affine(tb + d.offset(last), d.width[last], d.outputs(), a, output);
      store_block(d, output, d.outputs(), block, y + b * d.n * d.outputs(), dy + b * d.n * d.outputs());
    }
  });
}

template <class T>
size_t mlp_jet_narrow_backward_workspace(const MlpDims& d) {
  return static_cast<size_t>(d.batch * shards_of(d) * d.parameters() * lanes) * sizeof(T);
}

template <class T>
void mlp_jet_narrow_backward(const MlpDims& d, const T* x, const T* dx, const T* theta, const T* state, const T* gy,
                             const T* gdy, T* dtheta, T* gx, T* gdx, void* workspace) {
  const int64_t shards = shards_of(d), parameters = d.parameters();
  const int64_t in = d.n * d.inputs(), out = d.n * d.outputs();
  T* partial = static_cast<T*>(workspace);
  parallel_for(d.batch * shards, [&](int64_t task) {
    const int64_t b = task / shards, shard = task % shards;
    T* sums = partial + task * parameters * lanes;
    std::fill(sums, sums + parameters * lanes, T(0));
    for (int64_t block = shard_begin(d.blocks(), shards, shard); block < shard_begin(d.blocks(), shards, shard + 1);
         ++block)
      backward_block(d, block, x + b * in, dx + b * in, theta + b * parameters, state + b * d.state_size(),
                     gy + b * out, gdy + b * out, sums, gx ? gx + b * in : nullptr, gx ? gdx + b * in : nullptr);
  });
  for (int64_t b = 0; b < d.batch; ++b)
    for (int64_t p = 0; p < parameters; ++p) {
      alignas(64) T sum[lanes] = {};
      for (int64_t shard = 0; shard < shards; ++shard) {
        const T* from = partial + ((b * shards + shard) * parameters + p) * lanes;
        for (int64_t i = 0; i < lanes; ++i) sum[i] += from[i];
      }
      for (int64_t width = lanes / 2; width > 0; width /= 2)
        for (int64_t i = 0; i < width; ++i) sum[i] += sum[i + width];
      dtheta[b * parameters + p] = sum[0];
    }
}

#define RANVIER_MLP(T)                                                                                              \
  template void mlp_jet_narrow(const MlpDims&, const T*, const T*, const T*, T*, T*, T*);                           \
  template size_t mlp_jet_narrow_backward_workspace<T>(const MlpDims&);                                             \
  template void mlp_jet_narrow_backward(const MlpDims&, const T*, const T*, const T*, const T*, const T*, const T*, \
                                        T*, T*, T*, void*);
RANVIER_MLP(float)
RANVIER_MLP(double)
#undef RANVIER_MLP

}  // namespace ranvier::kernels::cpu
