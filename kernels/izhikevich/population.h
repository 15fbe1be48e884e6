// Many Izhikevich neurons through many steps of one length: the state stays in registers between exchanges.
#pragma once
#include <cstdint>
#include <vector>

#include "kernels/izhikevich/model.h"

// Structure of arrays. Neurons come in shards fixed by the population's size; inside one, 64 bytes of lanes step
// together (pack.h) and only lanes that reach the peak leave for the scalar code of located.h, so every neuron has the
// bits of the same neuron alone. Arrays are padded to `padded(n)`; what stands in the padding is stepped and never
// read.

namespace ranvier::kernels::izhikevich {

/// A coefficient: one value for all neurons, or an array of padded(n).
template <class T>
struct Column {
  const T* each = nullptr;
  T shared{};
};

/// The maps there are; `printed_2003` and `printed_2004` are whole schemes (published.h).
enum class Map : uint8_t {
  euler,
  semi_implicit,
  backward_euler,
  midpoint,
  rk4,
  ab2,
  exponential,
  linear_implicit,
  printed_2003,
  printed_2004,
};

/// One spike inside a call: in which of its steps, how long after that step's start (0 in printed modes, which have no
/// such time; the whole step with the reset on the grid).
struct Event {
  uint32_t neuron;
  uint32_t step;
  double offset;
};

/// Why a neuron could not go on.
enum class Failure : uint8_t {
  none,
  runaway,     ///< more than max_events spikes in one step
  unsolvable,  ///< no solution, however short the step
  diverged,    ///< not a finite number at the end of the call
};

/// What one shard of a call gives.
struct ShardResult {
  std::vector<Event> events;  ///< ordered by step, neuron, offset
  Failure failure = Failure::none;
  uint32_t neuron = 0, step = 0;  ///< of the failure
  int64_t pieces = 0;             ///< shorter pieces of steps that had no solution
  std::vector<Event> ordered;     ///< scratch
  std::vector<uint32_t> starts;   ///< scratch
};

/// One call: `steps` steps of length h of n neurons under a held drive (or, one step, a growing one).
template <class T>
struct PopulationCall {
  int64_t n = 0;
  T* v = nullptr;
  T* u = nullptr;
  Column<T> p2, p1, w, ab, ae, abv;  ///< Rates; printed modes: q2, q1, -, b, e, v_b
  Column<T> q0, a;                   ///< printed modes only
  Column<T> v_peak, c, d;            ///< Reset
  Column<T> drive;                   ///< p0 = (q0 + I) / C; printed modes: I
  Column<T> slope;                   ///< of p0, a ms; only where `ramp`
  bool ramp = false;
  // Input from outside the population, held over the call; null where there is none.
  const T* current = nullptr;      ///< I added: p0 <- fma(w, current, p0); printed modes: I + current
  const T* conductance = nullptr;  ///< g = sum g_j: p1 <- fma(-w, g, p1); not in printed modes
  const T* reversal = nullptr;     ///< sum g_j E_j: p0 <- fma(w, reversal, p0) after the current
  T* slope_v = nullptr;            ///< ab2: the slopes of the step before; NaN in slope_v: there is none
  T* slope_u = nullptr;
  uint32_t* counts = nullptr;  ///< spikes added up; may be null
  bool events = true;          ///< fill ShardResult::events
  Map map = Map::rk4;
  bool located = true;                           ///< crossings located inside the step; else the reset on the grid
  bool zero = false;                             ///< spikes are upward crossings of 0 mV
  bool reset_only = false, update_only = false;  ///< printed_2003 in its two halves, for synapses between them
  int doublings = 3;                             ///< of `exponential`
  double h = 0;
  uint32_t steps = 1;
};

/// Neurons a shard: a function of nothing, so that results do not depend on threads.
constexpr int64_t shard_size = 1024;
/// n rounded up to whole blocks of lanes.
constexpr int64_t padded(int64_t n) { return (n + 63) / 64 * 64; }
constexpr int64_t shards_of(int64_t n) { return (n + shard_size - 1) / shard_size; }

/// Advances all shards on the OpenMP team. `results` has shards_of(n) entries, overwritten; their memory is reused.
/// After a failure a shard has stopped somewhere in the call, and its state is of no more use.
template <class T>
void advance(const PopulationCall<T>& call, std::vector<ShardResult>& results);

}  // namespace ranvier::kernels::izhikevich
