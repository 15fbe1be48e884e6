// The `cpu` variant: thin networks by lanes over points, wide ones by packed panels of weights.
#include "kernels/mlp_jet/wide.h"

namespace ranvier::kernels::cpu {
namespace {

template <class T>
using PanelPasses = wide::Passes<T, wide::Panels<T>>;

}  // namespace

template <class T>
size_t mlp_jet_workspace(const MlpDims& d) {
  return d.narrow() ? 0 : PanelPasses<T>::forward_workspace(d);
}

template <class T>
size_t mlp_jet_backward_workspace(const MlpDims& d) {
  return d.narrow() ? mlp_jet_narrow_backward_workspace<T>(d) : PanelPasses<T>::backward_workspace(d);
}

template <class T>
void mlp_jet(const MlpDims& d, const T* x, const T* dx, const T* theta, T* y, T* dy, T* state, void* workspace) {
  if (d.narrow()) return mlp_jet_narrow(d, x, dx, theta, y, dy, state);
  PanelPasses<T>::forward(d, x, dx, theta, y, dy, state, workspace);
}

template <class T>
void mlp_jet_backward(const MlpDims& d, const T* x, const T* dx, const T* theta, const T* state, const T* gy,
                      const T* gdy, T* dtheta, T* gx, T* gdx, void* workspace) {
  if (d.narrow()) return mlp_jet_narrow_backward(d, x, dx, theta, state, gy, gdy, dtheta, gx, gdx, workspace);
  PanelPasses<T>::backward(d, x, dx, theta, state, gy, gdy, dtheta, gx, gdx, workspace);
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
