// Spikes on their way on a CUDA device: its rings, made from the lists of the host and turned back into them. Private
// to the engine.
#pragma once
#include <tuple>

#include "engine/device_arena.h"
#include "engine/neuron_network_run.h"
#include "kernels/synapse/network_cuda.h"

namespace ranvier::neuron {

/// Places of a ring that a step may add `worst` spikes to, at first.
uint64_t ring_places(uint64_t worst);

/// The rings of all populations.
class DeviceRings {
 public:
  using Word = kernels::synapse::cuda::Word;
  using Event = kernels::synapse::cuda::Event;
  using Ring = kernels::synapse::cuda::Ring;
  using Projection = kernels::synapse::cuda::Projection;

  /// `projections` are those of `paths` on the device, whose factors lie beside the rings.
  DeviceRings(const NetworkSpec& spec, std::vector<Path>& paths, std::vector<Projection>& projections);

  /// The next population's, which has its receptor for kicks in `kicked` and `kick`.
  void add(const Ring& kicked, int64_t neurons, int64_t padded, int most_spikes);

  /// Rings that hold what the host has on its way at the start of step n, with room for more.
  void make(int64_t n);
  /// The inverse: what is on its way at the start of step n, in the lists of the host.
  void fetch(int64_t n);
  /// Larger ones, where that is better than emptying them more often, or the only way on; true where they moved.
  bool grow(int64_t n, bool must);

  /// Before a batch of steps: the host has all spikes up to now.
  void drain();
  /// Numbers of the next spikes, as the device has them now.
  std::vector<Word> now() const;
  /// Spikes since the last `advance`, of a population up to number `last`.
  std::vector<Event> events(int p, Word last) const { return events_of(p, cursors_[static_cast<size_t>(p)], last); }
  Word cursor(size_t p) const { return cursors_[p]; }
  void advance(std::vector<Word> now) { cursors_ = std::move(now); }

  size_t count() const { return rings_.size(); }
  const Ring* rings() const { return device_rings_; }
  const Projection* projections() const { return device_projections_; }

 private:
  /// A spike that has synapses before it.
  struct Pending {
    int64_t step;
    uint32_t source;
    int moment;
    int32_t factor;
    auto key() const { return std::tuple(step, source, moment); }
  };
  std::vector<Pending> pending_of(const Path& path, int64_t n) const;
  template <class Places>
  void fill(int p, int64_t n, const std::vector<Event>& events, const Places& places);
  template <class Places>
  void fill_factors(const Ring& ring, Projection& p, const Places& places, const std::vector<Pending>& list);
  void fetch(Path& path, const Projection& p, const Ring& ring, Word first, const std::vector<Event>& events,
             int64_t n) const;
  std::vector<Event> events_of(int p, Word first, Word last) const;
  bool printed() const { return spec_.mode == Mode::published_2003 || spec_.mode == Mode::published_2004; }

  const NetworkSpec& spec_;
  std::vector<Path>& paths_;
  std::vector<Projection>& projections_;
  DeviceArena arena_, ring_arena_;
  std::vector<Ring> rings_;
  std::vector<Word> cursors_, capacities_;
  Word *device_cursors_ = nullptr, *device_drained_ = nullptr;
  const Ring* device_rings_ = nullptr;
  const Projection* device_projections_ = nullptr;
};

}  // namespace ranvier::neuron
