// Populations on a CUDA device: which arrays travel when, and the list of spikes emptied as often as it fills up.
#include "engine/population_device.h"

#include <algorithm>
#include <tuple>
#include <unordered_map>

#if defined(RANVIER_HAS_CUDA)
#include "engine/error.h"
#include "engine/profiler_range.h"
#include "kernels/izhikevich/located.h"
#include "kernels/izhikevich/population_cuda.h"
#endif

namespace ranvier::neuron {

namespace iz = kernels::izhikevich;

#if defined(RANVIER_HAS_CUDA)

template <class T>
struct PopulationOnDevice<T>::Implementation {
  Device device;
  int64_t n;
  bool host_newer = true, device_newer = false;
  Memory v, u, slope_v, slope_u, counts, stopped, events, scratch, progress;
  struct Constant {
    Memory memory;
    bool current = false;
  };
  std::unordered_map<const void*, Constant> constants;  // by host address

  size_t padded() const { return static_cast<size_t>(iz::padded(n)); }

  /// The device's copy of an array that steps only read.
  const T* constant(const T* host) {
    if (!host) return nullptr;
    Constant& c = constants[host];
    if (!c.memory.data()) c.memory = Memory(device, padded() * sizeof(T));
    if (!c.current) copy_to_device(device, c.memory.data(), host, padded() * sizeof(T));
    c.current = true;
    return static_cast<const T*>(c.memory.data());
  }
  /// The same of an array that whoever has its span may write at any time.
  const T* input(const T* host) {
    if (host) constants[host].current = false;
    return constant(host);
  }

  /// Every array that steps change, with its place here.
  template <class Body>
  void for_state(const Call& host, const Body& body) {
    body(v, host.v, padded() * sizeof(T)), body(u, host.u, padded() * sizeof(T));
    body(slope_v, host.slope_v, padded() * sizeof(T)), body(slope_u, host.slope_u, padded() * sizeof(T));
    body(counts, host.counts, padded() * sizeof(uint32_t));
  }

  void push(const Call& host) {
    if (!host_newer) return;
    for_state(host, [&](Memory& to, const void* from, size_t bytes) {
      if (!from) return;
      if (!to.data()) to = Memory(device, bytes);
      copy_to_device(device, to.data(), from, bytes);
    });
    host_newer = false;
  }

  Call on_device(const Call& host) {
    Call call = host;
    for (iz::Column<T>* column : {&call.p2, &call.p1, &call.w, &call.ab, &call.ae, &call.abv, &call.q0, &call.a,
                                  &call.v_peak, &call.c, &call.d, &call.drive, &call.slope})
      column->each = constant(column->each);
    call.current = input(host.current), call.conductance = input(host.conductance);
    call.reversal = input(host.reversal);
    call.v = static_cast<T*>(v.data()), call.u = static_cast<T*>(u.data());
    call.slope_v = static_cast<T*>(slope_v.data()), call.slope_u = static_cast<T*>(slope_u.data());
    call.counts = static_cast<uint32_t*>(counts.data());
    return call;
  }

  iz::cuda::SpikeList list() const {
    return {static_cast<iz::Event*>(events.data()), static_cast<int64_t>(events.bytes() / sizeof(iz::Event)),
            static_cast<uint32_t*>(stopped.data()), static_cast<iz::cuda::Progress*>(progress.data())};
  }

  iz::cuda::Progress launch(const Call& call, bool again) {
    const ProfilerRange range(fmt::format("population ({}), {} steps", n, call.steps));
    iz::cuda::Progress state;
    fill_bytes(device, progress.data(), 0, sizeof state);
    iz::cuda::advance(call, list(), again, stream_of(device));
    copy_to_host(device, &state, progress.data(), sizeof state);
    return state;
  }

  static bool before(const iz::Event& a, const iz::Event& b) {
    return std::tie(a.step, a.neuron, a.offset) < std::tie(b.step, b.neuron, b.offset);
  }

  /// Puts what the list holds, in order, behind the first `taken` of `to`, whose size may only shrink at the end: what
  /// is written over need not be cleared.
  size_t take(const iz::cuda::Progress& state, std::vector<iz::Event>& to, size_t taken) {
    const auto count = static_cast<size_t>(state.full ? state.full - 1 : state.reserved);
    if (count == 0) return taken;
    if (scratch.bytes() < events.bytes()) scratch = Memory(device, events.bytes());
    const iz::Event* ordered = iz::cuda::order(static_cast<int64_t>(count), static_cast<iz::Event*>(events.data()),
                                               static_cast<iz::Event*>(scratch.data()), stream_of(device));
    if (to.size() < taken + count) to.resize(taken + count);
    copy_to_host(device, to.data() + taken, ordered, count * sizeof(iz::Event));
    const auto first = to.begin(), middle = first + static_cast<std::ptrdiff_t>(taken);
    std::inplace_merge(first, middle, middle + static_cast<std::ptrdiff_t>(count), before);
    return taken + count;
  }
};

template <class T>
PopulationOnDevice<T>::PopulationOnDevice(Device device, int64_t n, size_t list_bytes)
    : implementation_(std::make_unique<Implementation>()) {
  Implementation& own = *implementation_;
  own.device = device, own.n = n;
  own.progress = Memory(device, sizeof(iz::cuda::Progress));
  if (list_bytes == 0) return;
  // Room for what one neuron may list in a step at least, or it would wait for ever.
  own.events = Memory(device, std::max(list_bytes, (iz::max_events + 1) * sizeof(iz::Event)));
  own.stopped = Memory(device, own.padded() * sizeof(uint32_t));
  fill_bytes(device, own.stopped.data(), 0xff, own.stopped.bytes());
}
template <class T>
PopulationOnDevice<T>::~PopulationOnDevice() = default;

template <class T>
void PopulationOnDevice<T>::advance(const Call& host, iz::ShardResult& result) {
  Implementation& own = *implementation_;
  own.push(host);
  const Call call = own.on_device(host);
  result.failure = iz::Failure::none, result.pieces = 0;
  own.device_newer = true;
  iz::cuda::Progress::Word failure = 0;
  size_t taken = 0;
  for (bool again = false;; again = true) {
    const iz::cuda::Progress state = own.launch(call, again);
    result.pieces += static_cast<int64_t>(state.pieces), failure = std::max(failure, state.failure);
    if (!call.events) break;
    taken = own.take(state, result.events, taken);
    if (!state.full) break;
    if (own.events.bytes() < most_list_bytes) own.events = Memory(own.device, 2 * own.events.bytes());
  }
  result.events.resize(taken);
  if (failure == 0) return;
  result.failure = iz::cuda::failure_of(~failure);
  result.neuron = iz::cuda::neuron_of(~failure), result.step = iz::cuda::step_of(~failure);
}

template <class T>
void PopulationOnDevice<T>::fetch(const Call& host) {
  Implementation& own = *implementation_;
  if (!own.device_newer) return;
  own.for_state(host, [&](const Memory& from, void* to, size_t bytes) {
    if (to) copy_to_host(own.device, to, from.data(), bytes);
  });
  own.device_newer = false;
}

template <class T>
T PopulationOnDevice<T>::value(const Call& host, int64_t neuron, bool of_u) const {
  const Implementation& own = *implementation_;
  T x = (of_u ? host.u : host.v)[neuron];
  const auto* there = static_cast<const T*>((of_u ? own.u : own.v).data());
  if (own.device_newer) copy_to_host(own.device, &x, there + neuron, sizeof x);
  return x;
}

template <class T>
void PopulationOnDevice<T>::changed() {
  implementation_->host_newer = true;
}
template <class T>
void PopulationOnDevice<T>::changed(const void* array) {
  implementation_->constants[array].current = false;
}
template <class T>
void PopulationOnDevice<T>::forget() {
  Implementation& own = *implementation_;
  if (own.slope_v.data()) fill_bytes(own.device, own.slope_v.data(), 0xff, own.slope_v.bytes());
}

#else  // never made: `validate` refuses a device that is not there

template <class T>
struct PopulationOnDevice<T>::Implementation {};
template <class T>
PopulationOnDevice<T>::PopulationOnDevice(Device, int64_t, size_t) {}
template <class T>
PopulationOnDevice<T>::~PopulationOnDevice() = default;
template <class T>
void PopulationOnDevice<T>::advance(const Call&, iz::ShardResult&) {}
template <class T>
void PopulationOnDevice<T>::fetch(const Call&) {}
template <class T>
T PopulationOnDevice<T>::value(const Call&, int64_t, bool) const {
  return {};
}
template <class T>
void PopulationOnDevice<T>::changed() {}
template <class T>
void PopulationOnDevice<T>::changed(const void*) {}
template <class T>
void PopulationOnDevice<T>::forget() {}

#endif

template class PopulationOnDevice<float>;
template class PopulationOnDevice<double>;

}  // namespace ranvier::neuron
