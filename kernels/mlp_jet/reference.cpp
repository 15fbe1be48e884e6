// The network and its tangent in plain loops, point after point: the oracle of the fast versions, in f32 and f64.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kernels/common/parallel.h"
#include "kernels/mlp_jet/mlp_jet.h"

namespace ranvier::kernels::reference {
namespace {

/// Input of layer l at one point: the network's own, or the hidden state below.
template <class T>
struct Activation {
  const T *value, *tangent;
  int64_t step;
};

template <class T>
Activation<T> below(const MlpDims& d, int64_t l, int64_t i, const T* x, const T* dx, const T* state) {
  if (l == 0) return {x + i * d.inputs(), dx + i * d.inputs(), 1};
  const T* at = state + d.state_at(l - 1, i, 0);
  return {at, at + d.tangent_step(l - 1), d.narrow() ? 2 * MlpDims::lanes : 1};
}

/// z and its tangent of unit j.
template <class T>
void preactivation(const T* w, int64_t in, int64_t out, int64_t j, const Activation<T>& a, T& z, T& dz) {
  z = w[out * in + j], dz = 0;
  for (int64_t k = 0; k < in; ++k) {
    z += w[j * in + k] * a.value[k * a.step];
    dz += w[j * in + k] * a.tangent[k * a.step];
  }
}

template <class T>
void hidden_layers(const MlpDims& d, int64_t i, const T* x, const T* dx, const T* theta, T* state) {
  for (int64_t l = 0; l + 1 < d.layers; ++l) {
    const Activation<T> a = below(d, l, i, x, dx, static_cast<const T*>(state));
    for (int64_t j = 0; j < d.width[l + 1]; ++j) {
      T z, dz;
      preactivation(theta + d.offset(l), d.width[l], d.width[l + 1], j, a, z, dz);
      const T h = std::tanh(z);
      T* to = state + d.state_at(l, i, j);
      to[0] = h, to[d.tangent_step(l)] = (1 - h) * (1 + h) * dz;
    }
  }
}

/// Walks one point backwards from gradients (g, c) of the outputs; calls `layer(l, gz, gdz)` with the gradients of a
/// layer's preactivations, and leaves those of the input in (g, c).
template <class T, class Layer>
void walk_back(const MlpDims& d, int64_t i, const T* theta, const T* state, std::vector<T>& g, std::vector<T>& c,
               Layer&& layer) {
  std::vector<T> below_g, below_c;
  for (int64_t l = d.layers - 1; l >= 0; --l) {
    const int64_t in = d.width[l], out = d.width[l + 1];
    if (l + 1 < d.layers)
      for (int64_t j = 0; j < out; ++j) {
        const T* at = state + d.state_at(l, i, j);
        const T h = at[0], dh = at[d.tangent_step(l)], s = (1 - h) * (1 + h);
        g[static_cast<size_t>(j)] = s * g[static_cast<size_t>(j)] - 2 * h * dh * c[static_cast<size_t>(j)];
        c[static_cast<size_t>(j)] = s * c[static_cast<size_t>(j)];
      }
    layer(l, g.data(), c.data());
    below_g.assign(static_cast<size_t>(in), T(0)), below_c.assign(static_cast<size_t>(in), T(0));
    const T* w = theta + d.offset(l);
    for (int64_t j = 0; j < out; ++j)
      for (int64_t k = 0; k < in; ++k) {
        below_g[static_cast<size_t>(k)] += w[j * in + k] * g[static_cast<size_t>(j)];
        below_c[static_cast<size_t>(k)] += w[j * in + k] * c[static_cast<size_t>(j)];
      }
    g.swap(below_g), c.swap(below_c);
  }
}

/// dtheta += the parameters' gradient of layer l at one point.
template <class T>
void add_layer(const MlpDims& d, int64_t l, const T* gz, const T* gdz, const Activation<T>& a, T* dtheta) {
  const int64_t in = d.width[l], out = d.width[l + 1];
  T* dw = dtheta + d.offset(l);
  for (int64_t j = 0; j < out; ++j) {
    for (int64_t k = 0; k < in; ++k) dw[j * in + k] += gz[j] * a.value[k * a.step] + gdz[j] * a.tangent[k * a.step];
    dw[out * in + j] += gz[j];
  }
}

}  // namespace

template <class T>
void mlp_jet(const MlpDims& d, const T* x, const T* dx, const T* theta, T* y, T* dy, T* state) {
  const int64_t outputs = d.outputs(), last = d.layers - 1;
  std::vector<T> origin(static_cast<size_t>(d.inputs()));
  for (int64_t b = 0; b < d.batch; ++b) {
    const T *xb = x + b * d.n * d.inputs(), *dxb = dx + b * d.n * d.inputs(), *tb = theta + b * d.parameters();
    T* sb = state + b * d.state_size();
    for (int64_t i = 0; i < d.n; ++i) {
      hidden_layers(d, i, xb, dxb, tb, sb);
      const Activation<T> a = below(d, last, i, xb, dxb, static_cast<const T*>(sb));
      for (int64_t j = 0; j < outputs; ++j) {
        const int64_t to = (b * d.n + i) * outputs + j;
        preactivation(tb + d.offset(last), d.width[last], outputs, j, a, y[to], dy[to]);
      }
    }
    for (int64_t i = d.n; i < d.state_points(); ++i)  // point i of a matrix whose row i is the origin
      hidden_layers(d, i, origin.data() - i * d.inputs(), origin.data() - i * d.inputs(), tb, sb);
  }
}

template <class T>
void mlp_jet_backward(const MlpDims& d, const T* x, const T* dx, const T* theta, const T* state, const T* gy,
                      const T* gdy, T* dtheta, T* gx, T* gdx) {
  std::fill(dtheta, dtheta + d.batch * d.parameters(), T(0));
  std::vector<T> g, c;
  for (int64_t b = 0; b < d.batch; ++b)
    for (int64_t i = 0; i < d.n; ++i) {
      const int64_t row = b * d.n + i;
      const T *xb = x + b * d.n * d.inputs(), *dxb = dx + b * d.n * d.inputs(), *sb = state + b * d.state_size();
      g.assign(gy + row * d.outputs(), gy + (row + 1) * d.outputs());
      c.assign(gdy + row * d.outputs(), gdy + (row + 1) * d.outputs());
      walk_back(d, i, theta + b * d.parameters(), sb, g, c, [&](int64_t l, const T* gz, const T* gdz) {
        add_layer(d, l, gz, gdz, below(d, l, i, xb, dxb, sb), dtheta + b * d.parameters());
      });
      if (gx) std::copy(g.begin(), g.end(), gx + row * d.inputs());
      if (gdx) std::copy(c.begin(), c.end(), gdx + row * d.inputs());
    }
}

template <class T>
void mlp_jet_rows(const MlpDims& d, int64_t residuals, const T* x, const T* dx, const T* theta, const T* state,
                  const T* seeds, T* rows) {
  const int64_t parameters = d.parameters(), outputs = d.outputs(), points = d.batch * d.n;
  const int64_t shards = shard_count(points * residuals * parameters, 1 << 16);
  parallel_for(std::min(shards, std::max<int64_t>(points, 1)), [&](int64_t shard) {
    const int64_t count = std::min(shards, std::max<int64_t>(points, 1));
    std::vector<T> g, c;
    for (int64_t row = shard_begin(points, count, shard); row < shard_begin(points, count, shard + 1); ++row) {
      const int64_t b = row / d.n, i = row % d.n;
      const T *xb = x + b * d.n * d.inputs(), *dxb = dx + b * d.n * d.inputs(), *sb = state + b * d.state_size();
      for (int64_t r = 0; r < residuals; ++r) {
        const T* seed = seeds + (row * residuals + r) * 2 * outputs;
        T* to = rows + (row * residuals + r) * parameters;
        std::fill(to, to + parameters, T(0));
        g.assign(seed, seed + outputs), c.assign(seed + outputs, seed + 2 * outputs);
        walk_back(d, i, theta + b * parameters, sb, g, c, [&](int64_t l, const T* gz, const T* gdz) {
          add_layer(d, l, gz, gdz, below(d, l, i, xb, dxb, sb), to);
        });
      }
    }
  });
}

#define RANVIER_MLP(T)                                                                                               \
  template void mlp_jet(const MlpDims&, const T*, const T*, const T*, T*, T*, T*);                                   \
  template void mlp_jet_backward(const MlpDims&, const T*, const T*, const T*, const T*, const T*, const T*, T*, T*, \
                                 T*);                                                                                \
  template void mlp_jet_rows(const MlpDims&, int64_t, const T*, const T*, const T*, const T*, const T*, T*);
RANVIER_MLP(float)
RANVIER_MLP(double)
#undef RANVIER_MLP

}  // namespace ranvier::kernels::reference
