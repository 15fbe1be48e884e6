// One Izhikevich neuron stepped by hand, whose parameters and current may change between steps.
#pragma once
#include <memory>
#include <string_view>
#include <vector>

#include "engine/neuron.h"

namespace ranvier::neuron {

/// Left alone it has the bits of `simulate` with the same protocol: both run the same steps. In f64, with every solver
/// of fixed step and every mode. Moves, does not copy.
class Stepper {
 public:
  /// The protocol's duration, trace, samples and stop count not. Throws Error on a bad setup; `label` names it there.
  explicit Stepper(Protocol protocol, std::string_view label = "neuron 0");
  ~Stepper();
  Stepper(Stepper&&) noexcept;
  Stepper& operator=(Stepper&&) noexcept;

  /// One step of dt. Throws Runaway where the neuron has no bounded answer; it can then not go on.
  void advance();
  /// Parameters and current (at absolute times, ms) from the next step on. Where v_peak is now at or below v the neuron
  /// spikes at once. Adams-Bashforth restarts. Throws Error on bad parameters and then changes nothing.
  void change(const Parameters& parameters, Stimulus current);

  double time() const;  ///< ms
  double v() const;
  double u() const;
  /// Extremes, counts and the end of all steps so far.
  const Result& run() const;
  const Protocol& protocol() const;
  /// Times of the spikes since the last call, ms.
  std::vector<double> take_spikes();

 private:
  struct Implementation;
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace ranvier::neuron
