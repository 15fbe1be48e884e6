// A fully connected tanh network carried together with its derivative along one direction, and the reverse of that.
#pragma once
#include <cstddef>
#include <cstdint>

#include "kernels/common/stream.h"

namespace ranvier::kernels {

/// `batch` networks of one shape, each with its own parameters and its own n points. Layer l maps width[l] to
/// width[l + 1]; all layers but the last end in tanh. Parameters of a network lie layer after layer: the weight
/// (out, in), then the bias (out).
struct MlpDims {
  static constexpr int64_t max_layers = 8;
  int64_t batch = 1, n = 0, layers = 0;
  int64_t width[max_layers + 1] = {};

  int64_t inputs() const { return width[0]; }
  int64_t outputs() const { return width[layers]; }
  /// Offset of layer l's weight; of layer `layers`: the number of parameters.
  int64_t offset(int64_t l) const {
    int64_t sum = 0;
    for (int64_t k = 0; k < l; ++k) sum += width[k + 1] * (width[k] + 1);
    return sum;
  }
  int64_t parameters() const { return offset(layers); }
  /// Hidden units before layer l's (l = 0 is the first hidden layer); of `layers - 1`: their number.
  int64_t units_before(int64_t l) const {
    int64_t sum = 0;
    for (int64_t k = 0; k < l; ++k) sum += width[k + 1];
    return sum;
  }
  int64_t units() const { return units_before(layers - 1); }

  /// Thin networks are computed with lanes over points, wide ones with lanes over units.
  bool narrow() const {
    bool thin = inputs() <= 4 && outputs() <= 4;
    for (int64_t l = 1; l < layers; ++l) thin = thin && width[l] <= 32;
    return thin;
  }

  // The state: h = tanh(z) and its tangent for every hidden unit and point, which the backward pass reads.
  //   narrow: (blocks of 16 points, unit, {h, tangent}, 16); points beyond n are those of input 0
  //   wide:   layer after layer (point, {h, tangent}, unit)
  static constexpr int64_t lanes = 16;
  int64_t blocks() const { return (n + lanes - 1) / lanes; }
  int64_t state_points() const { return narrow() ? blocks() * lanes : n; }
  int64_t state_size() const { return 2 * state_points() * units(); }  ///< of one network
  /// Where h of unit j of hidden layer l at point i lies; its tangent lies `tangent_step(l)` further.
  int64_t state_at(int64_t l, int64_t i, int64_t j) const {
    if (narrow()) return ((i / lanes * units() + units_before(l) + j) * 2) * lanes + i % lanes;
    return 2 * (n * units_before(l) + i * width[l + 1]) + j;
  }
  int64_t tangent_step(int64_t l) const { return narrow() ? lanes : width[l + 1]; }

  /// Floating-point operations of a forward pass; the backward pass has twice as many.
  double flops() const {
    double sum = 0;
    for (int64_t l = 0; l < layers; ++l) sum += 4.0 * static_cast<double>(width[l] * width[l + 1]);
    return sum * static_cast<double>(batch * n);
  }
};

// x, dx (batch, n, inputs): input and its direction. y, dy (batch, n, outputs): value and directional derivative.
// theta (batch, parameters). With g = dL/dh and c = dL/d(tangent of h) at a hidden unit h = tanh z, s = 1 - h^2:
//   dL/dz = s g - 2 h h' c,   dL/dz' = s c.

namespace reference {
template <class T>
void mlp_jet(const MlpDims& dims, const T* x, const T* dx, const T* theta, T* y, T* dy, T* state);
/// Gradients from gy = dL/dy and gdy = dL/d(dy); gx and gdx may be null (not wanted).
template <class T>
void mlp_jet_backward(const MlpDims& dims, const T* x, const T* dx, const T* theta, const T* state, const T* gy,
                      const T* gdy, T* dtheta, T* gx, T* gdx);
/// rows (batch, n, residuals, parameters): row (i, r) is the gradient of residual r at point i, whose derivatives with
/// respect to y and dy are seeds (batch, n, residuals, 2, outputs).
template <class T>
void mlp_jet_rows(const MlpDims& dims, int64_t residuals, const T* x, const T* dx, const T* theta, const T* state,
                  const T* seeds, T* rows);
}  // namespace reference

namespace cpu {
/// Workspace in bytes of forward and backward passes.
template <class T>
size_t mlp_jet_workspace(const MlpDims& dims);
template <class T>
size_t mlp_jet_backward_workspace(const MlpDims& dims);
/// Lanes over points (narrow networks only) or packed panels over units; bit-equal for any number of threads.
template <class T>
void mlp_jet(const MlpDims& dims, const T* x, const T* dx, const T* theta, T* y, T* dy, T* state, void* workspace);
template <class T>
void mlp_jet_backward(const MlpDims& dims, const T* x, const T* dx, const T* theta, const T* state, const T* gy,
                      const T* gdy, T* dtheta, T* gx, T* gdx, void* workspace);
/// The narrow instances of the two, which `mlp_jet` and `mlp_jet_backward` choose by the dims.
template <class T>
void mlp_jet_narrow(const MlpDims& dims, const T* x, const T* dx, const T* theta, T* y, T* dy, T* state);
template <class T>
size_t mlp_jet_narrow_backward_workspace(const MlpDims& dims);
template <class T>
void mlp_jet_narrow_backward(const MlpDims& dims, const T* x, const T* dx, const T* theta, const T* state, const T* gy,
                             const T* gdy, T* dtheta, T* gx, T* gdx, void* workspace);
/// Wide f32 networks with a layer of at least 32 x 32 on AMX's tiles, where the machine has them (amx_tiles.h).
bool mlp_jet_amx_runs(const MlpDims& dims);
size_t mlp_jet_amx_workspace(const MlpDims& dims);
size_t mlp_jet_backward_amx_workspace(const MlpDims& dims);
void mlp_jet_amx(const MlpDims& dims, const float* x, const float* dx, const float* theta, float* y, float* dy,
                 float* state, void* workspace);
void mlp_jet_backward_amx(const MlpDims& dims, const float* x, const float* dx, const float* theta, const float* state,
                          const float* gy, const float* gdy, float* dtheta, float* gx, float* gdx, void* workspace);
}  // namespace cpu

namespace cuda {
/// Workspaces in bytes: gradients of all preactivations, and partial sums of the parameters' gradients.
template <class T>
size_t mlp_jet_backward_workspace(const MlpDims& dims);
template <class T>
size_t mlp_jet_rows_workspace(const MlpDims& dims, int64_t residuals);
/// The three passes in f32 and f64: a launch a layer forwards and another backwards; sums in an order fixed by n.
template <class T>
void mlp_jet(const MlpDims& dims, const T* x, const T* dx, const T* theta, T* y, T* dy, T* state, CudaStream stream);
template <class T>
void mlp_jet_backward(const MlpDims& dims, const T* x, const T* dx, const T* theta, const T* state, const T* gy,
                      const T* gdy, T* dtheta, T* gx, T* gdx, void* workspace, CudaStream stream);
template <class T>
void mlp_jet_rows(const MlpDims& dims, int64_t residuals, const T* x, const T* dx, const T* theta, const T* state,
                  const T* seeds, T* rows, void* workspace, CudaStream stream);
}  // namespace cuda

}  // namespace ranvier::kernels
