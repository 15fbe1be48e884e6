// Populations on a CUDA device: the two printed schemes, and which instance runs a call.
#include "kernels/izhikevich/cuda_population.cuh"

namespace ranvier::kernels::izhikevich::cuda {

RANVIER_DEVICE_POPULATION_METHOD(extern, Euler)
RANVIER_DEVICE_POPULATION_METHOD(extern, SemiImplicit)
RANVIER_DEVICE_POPULATION_METHOD(extern, AdamsBashforth)
RANVIER_DEVICE_POPULATION_METHOD(extern, Midpoint)
RANVIER_DEVICE_POPULATION_METHOD(extern, Rk4)
RANVIER_DEVICE_POPULATION_METHOD(extern, BackwardEuler)
RANVIER_DEVICE_POPULATION_METHOD(extern, LinearImplicit)
RANVIER_DEVICE_POPULATION_METHOD(extern, Exponential)

namespace {

template <Map Scheme, class T>
void advance_printed(const PopulationCall<T>& call, const SpikeList& list, bool again, CudaStream stream) {
  launch(printed_kernel<Scheme, T>, {dim3(grid_of((call.n + threads - 1) / threads)), dim3(threads), 0, stream}, call,
         static_cast<T>(call.h), list, again);
}

}  // namespace

template <class T>
void advance(const PopulationCall<T>& call, const SpikeList& list, bool again, CudaStream stream) {
  switch (call.map) {
    case Map::euler:
      return advance_with(call, Euler{}, list, again, stream);
    case Map::semi_implicit:
      return advance_with(call, SemiImplicit{}, list, again, stream);
    case Map::backward_euler:
      return advance_with(call, BackwardEuler{}, list, again, stream);
    case Map::midpoint:
      return advance_with(call, Midpoint{}, list, again, stream);
    case Map::rk4:
      return advance_with(call, Rk4{}, list, again, stream);
    case Map::ab2:
      return advance_with(call, AdamsBashforth{}, list, again, stream);
    case Map::exponential:
      return advance_with(call, Exponential{call.doublings}, list, again, stream);
    case Map::linear_implicit:
      return advance_with(call, LinearImplicit{}, list, again, stream);
    case Map::printed_2003:
      return advance_printed<Map::printed_2003>(call, list, again, stream);
    case Map::printed_2004:
      return advance_printed<Map::printed_2004>(call, list, again, stream);
  }
}

template void advance(const PopulationCall<float>&, const SpikeList&, bool, CudaStream);
template void advance(const PopulationCall<double>&, const SpikeList&, bool, CudaStream);

}  // namespace ranvier::kernels::izhikevich::cuda
