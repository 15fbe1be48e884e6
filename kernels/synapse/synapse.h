// The arithmetic of synapses that every backend shares: fixed-point sums, receptors, short-term plasticity and STDP.
#pragma once
#include "kernels/izhikevich/lanes.h"

// What reaches a neuron in a step is a sum of integers: weight * 2^shift, rounded once when the network is built (of a
// plastic synapse, when it is delivered), added in 64 bits. Such a sum has one value in whatever order its terms come
// and on however many threads. R is a real type of kernels/izhikevich/lanes.h whose lanes are neurons.

namespace ranvier::kernels::synapse {

using izhikevich::constant;
using izhikevich::Element;

// ---- fixed point ----

/// |weight| * unit is at most 2^30: 2^32 of them still fit 63 bits.
constexpr int weight_bits = 30;

/// weight * unit as an integer, ties to even. `unit` is a power of two.
RANVIER_HD_INLINE int32_t fixed_point(float weight, double unit) {
  constexpr double rounder = 0x1.8p52;
  return static_cast<int32_t>((product(static_cast<double>(weight), unit) + rounder) - rounder);
}

/// A release factor from 0 to 1, in units of 2^-30.
RANVIER_HD_INLINE int32_t fixed_factor(double factor) { return fixed_point(static_cast<float>(factor), 0x1p30); }

/// weight * factor in the weight's unit, rounded to the nearest, halves up.
RANVIER_HD_INLINE int64_t released(int32_t weight, int32_t factor) {
  return (int64_t{weight} * factor + (int64_t{1} << (weight_bits - 1))) >> weight_bits;
}

// ---- delays ----

/// Parts that a step is counted in where whole ones are too coarse: delays, and moments of spikes inside their step.
constexpr int step_parts = 256;

/// Where in its step of length h a spike lies: 0 at its very start, else 1 to 256, rounded up.
RANVIER_HD_INLINE int moment_of(double offset, double h) {
  const double exact = step_parts * quotient(offset, h);
  const int below = static_cast<int>(exact), moment = below + (exact > below ? 1 : 0);
  return moment < step_parts ? moment : step_parts;
}

/// Steps from a spike's own to the first that begins at or after its time + delay; the delay in parts of a step.
RANVIER_HD_INLINE int64_t steps_until(int moment, int64_t delay) {
  return (moment + delay + step_parts - 1) / step_parts;
}

// ---- receptors ----

/// What an arriving weight does.
enum class Kind : uint8_t {
  pulse,        ///< weight x 1 ms of charge, in one step
  exponential,  ///< current that decays
  ampa,         ///< conductance that decays
  nmda,         ///< conductance that rises and decays, open with depolarisation
  gaba_a,       ///< as ampa, another reversal potential
  gaba_b,       ///< as nmda, always open
};

RANVIER_HD_INLINE bool is_conductance(Kind kind) { return kind >= Kind::ampa; }
/// State variables that a receptor keeps for a neuron.
RANVIER_HD_INLINE int states(Kind kind) {
  return kind == Kind::pulse ? 0 : kind == Kind::nmda || kind == Kind::gaba_b ? 2 : 1;
}

/// One receptor's coefficients for a step of length h. A state s that decays as exp(-t / tau) is `mean` times its start
/// in the mean of the step, which is what the neuron gets: the charge of a spike is weight * tau whatever h is, and
/// that of a pulse weight * 1 ms, as in the scripts with their steps of 1 ms.
template <class R>
struct Receptor {
  R decay, mean;  ///< exp(-h / tau), (1 - exp(-h / tau)) tau / h; the latter times the peak's norm; pulse: 1 / h
  R rise_decay, rise_mean;  ///< the same of the rise (nmda, gaba_b)
  R reversal;               ///< mV
};

/// Current into a neuron: current - conductance * v.
template <class R>
struct Input {
  R current, conductance;
};

/// Open share of the NMDA receptors at v (Izhikevich, Gally and Edelman, Cerebral Cortex 14, 2004).
template <class R>
RANVIER_HD_INLINE R nmda_open(R v) {
  const R x = product(v + constant<R>(80), constant<R>(1.0 / 60)), square = product(x, x);
  return quotient(square, constant<R>(1) + square);
}

/// One receptor of a neuron through one step: takes what arrived at its start, adds its share to `input`, decays.
/// `decaying` and `rising` are its states, v the potential at the step's start.
template <class R>
RANVIER_HD_INLINE void receive(Kind kind, const Receptor<R>& k, R arrived, R v, R& decaying, R& rising,
                               Input<R>& input) {
  if (kind == Kind::pulse) {
    input.current = fused(arrived, k.mean, input.current);
    return;
  }
  decaying = decaying + arrived;
  R g = product(decaying, k.mean);
  decaying = product(decaying, k.decay);
  if (states(kind) == 2) {
    rising = rising + arrived;
    g = fused(-rising, k.rise_mean, g);
    rising = product(rising, k.rise_decay);
  }
  if (!is_conductance(kind)) {
    input.current = input.current + g;
    return;
  }
  if (kind == Kind::nmda) g = product(g, nmda_open(v));
  input.conductance = input.conductance + g;
  input.current = fused(g, k.reversal, input.current);
}

// ---- short-term plasticity ----

/// Tsodyks, Pawelzik and Markram, Neural Computation 10 (1998): at a spike u <- u + U (1 - u), a share u of the
/// resources x is released; between spikes u relaxes to U (facilitation; to 0 before its jump, as printed) and x to 1.
struct ShortTerm {
  double U;
  double inverse_facilitation;  ///< 1 / tau_f, 1 / ms; 0: no facilitation, u = U
  double inverse_depression;    ///< 1 / tau_d, 1 / ms; 0: resources never return
};

/// u right after the last spike and x right after it.
struct Resources {
  double u = 0, x = 1;
};

/// A spike `elapsed` ms after the one before: the released share of the weight.
RANVIER_HD_INLINE double release(const ShortTerm& k, Resources& state, double elapsed) {
  const double x = 1.0 - product(1.0 - state.x, math::exp(-product(elapsed, k.inverse_depression)));
  const double before =
      k.inverse_facilitation > 0 ? product(state.u, math::exp(-product(elapsed, k.inverse_facilitation))) : 0.0;
  state.u = fused(k.U, 1.0 - before, before);
  const double out = product(state.u, x);
  state.x = x - out;
  return out;
}

// ---- spike-timing dependent plasticity ----

/// Pair-based, additive. Each spike adds 1 to its neuron's trace (or sets it to 1: only the nearest counts), which
/// decays by `decay` a step. A spike of the target adds `plus` * (trace of the source, delayed) to the weight, an
/// arrival takes `minus` * (trace of the target). With `interval` the sum of both is kept beside the weight and applied
/// once an interval: w <- w + drift + change, change <- keep * change (Izhikevich 2006).
struct Stdp {
  float plus, minus, source_decay, target_decay, low, high, drift, keep;
  bool nearest, accumulated;
};

RANVIER_HD_INLINE float clipped(float x, float low, float high) { return x < low ? low : x > high ? high : x; }

/// The weight or the kept sum after an arrival.
RANVIER_HD_INLINE float depressed(const Stdp& k, float value, float target_trace) {
  const float next = fused(-k.minus, target_trace, value);
  return k.accumulated ? next : clipped(next, k.low, k.high);
}
/// The weight or the kept sum after a spike of the target.
RANVIER_HD_INLINE float potentiated(const Stdp& k, float value, float source_trace) {
  const float next = fused(k.plus, source_trace, value);
  return k.accumulated ? next : clipped(next, k.low, k.high);
}
/// The weight at the end of an interval; the kept sum shrinks.
RANVIER_HD_INLINE float applied(const Stdp& k, float weight, float& change) {
  const float next = clipped(weight + (k.drift + change), k.low, k.high);
  change = product(change, k.keep);
  return next;
}

}  // namespace ranvier::kernels::synapse
