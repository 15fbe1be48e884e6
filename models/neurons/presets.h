// Named neurons: cell types of 2003 and 2007, and the twenty patterns of 2004 with the protocols that show them.
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/neuron.h"

namespace ranvier::neuron {

/// Which way the equation is written: its parameters have other names and units.
enum class Form { f2003, f2007 };
std::string_view name(Form);
Form form_named(std::string_view);

/// A neuron, a protocol, and the steps its source takes.
struct Preset {
  std::string name, title;
  Form form = Form::f2003;
  Parameters parameters;
  double k = 0, v_r = 0, v_t = 0;  ///< 2007 only: C v' = k (v - v_r)(v - v_t) - u + I
  std::optional<double> v0, u0;    ///< otherwise -65 (2003) or v_r, and b (v0 - v_b)
  Stimulus current;
  std::string current_text;  ///< the current in words
  double dt = 0.1;           ///< ms, of the source where it has one
  double duration = 1000;

  double start_v() const { return v0.value_or(form == Form::f2007 ? v_r : -65); }
  double start_u() const { return u0.value_or(parameters.b * (start_v() - parameters.v_b)); }
  /// A run of it with the given solver and mode.
  Protocol protocol(Solver solver = Solver::rk4, Mode mode = Mode::accurate) const;
};

/// "rs2003", "ch2007", "pattern:a" ... "pattern:t", and "cell:rs" ... for the eight cells of the 2003 figure with their
/// protocols. Throws Error listing the names there are.
Preset preset(std::string_view name);
std::vector<std::string> preset_names();
/// The names of the twenty patterns, in order.
std::vector<std::string> pattern_names();

/// Sets one parameter by name: C k v_r v_t (2007), q0 q1 q2 v_b e (2003), a b c d v_peak v0 u0. Also vr, vt, vpeak.
/// Throws Error on a key that the form does not have.
void set_parameter(Preset&, std::string_view key, double value);
/// "k=0.7,a=0.03".
void set_parameters(Preset&, std::string_view list);

/// A finite number, or Error naming `what`.
double number(std::string_view text, std::string_view what);

}  // namespace ranvier::neuron
