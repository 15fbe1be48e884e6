// The list of keys, and its form for people.
#include "models/neurons/network_keys.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>

namespace ranvier::neuron {
namespace {

constexpr NetworkKey keys[] = {
    {"network", "title", "text (the file's name)", "in summaries and pictures"},
    {"network", "mode", "text (accurate)", "accurate, published, published:2003, published:2004"},
    {"network", "solver", "text (rk4)", "not with the two printed modes, which have their own steps"},
    {"network", "precision", "text (f64)", "f32 or f64"},
    {"network", "dt_ms", "number (0.1)", "the step"},
    {"network", "duration_ms", "number (1000)", "a whole number of steps"},
    {"network", "seed", "whole number (0)", "of every random stream"},
    {"network", "kick", "number (none)", "this current for 1 ms into one neuron of the network, drawn anew each time"},
    {"network", "kick_ms", "number (1)", "how often; with kick"},

    {"population", "name", "text", "letters, digits, _ and -; needed"},
    {"population", "size", "whole number (1)", "neurons"},
    {"population", "preset", "text (rs2003)", "a neuron of `simulate --preset`"},
    {"population", "params", "text (none)", "\"a=0.03,d=6\": parameters of all neurons"},
    {"population", "each", "table (none)",
     "{ c = \"uniform -65 -55\" }: parameters drawn for each; a number, uniform or normal"},
    {"population", "current", "text or number (0)",
     "all that --current takes for populations, held from a step's start to its end"},
    {"population", "noise_sd", "number (0)", "deviation of a normal current of each neuron"},
    {"population", "noise_dt_ms", "number (1)", "how long it is held, whole steps; with noise_sd"},
    {"population", "field", "table (none)", "its cells in the field, see below"},

    {"projection", "name", "text (source_target)", "as of populations; names its random streams"},
    {"projection", "source", "text", "a population; needed"},
    {"projection", "target", "text", "a population; needed"},
    {"projection", "rule", "text",
     "all_to_all, one_to_one, probability, in_degree, out_degree, sheet; or csv or sonata"},
    {"projection", "p", "number", "probability; of sheet at distance 0: p exp(-d^2 / (2 sigma^2)); needed by both"},
    {"projection", "degree", "whole number",
     "distinct partners; needed by in_degree (sources of each target) and out_degree"},
    {"projection", "self", "true or false (true)", "a neuron may reach itself; where source is target, not one_to_one"},
    {"projection", "sigma_mm", "number", "sheet: width of the Gaussian; needed"},
    {"projection", "cutoff_mm", "number (none)", "sheet: no synapse beyond"},
    {"projection", "width_mm", "number (1)",
     "both populations lie on square grids of this side; sheet and draws by distance"},
    {"projection", "wrap", "true or false (false)", "the square is a torus; as width_mm"},
    {"projection", "csv", "text", "a file with the heading source,target[,weight[,delay_ms]], neurons counted from 0"},
    {"projection", "sonata", "text",
     "an HDF5 file with /edges/NAME, its group 0 with syn_weight and delay where it has them"},
    {"projection", "edges", "text (the only one)", "NAME of the edges; with sonata"},
    {"projection", "weight", "draw (1)", "current (pulse: for 1 ms) or conductance; not where the list has its own"},
    {"projection", "delay_ms", "draw (1)",
     "at least a step; rounded up, with stdp and in published modes to whole steps; not where the list has its own"},
    {"projection", "synapse", "text (exponential)", "pulse, exponential, ampa, nmda, gaba_a, gaba_b"},
    {"projection", "tau_ms", "number (5, 5, 150, 6, 150)", "decay; all but pulse, in their order"},
    {"projection", "tau_rise_ms", "number (2, 10)", "rise; nmda, gaba_b"},
    {"projection", "reversal_mv", "number (0, 0, -70, -90)", "ampa, nmda, gaba_a, gaba_b"},
    {"projection", "short_term", "table (none)", "Tsodyks-Markram, see below"},
    {"projection", "stdp", "table (none)", "plastic weights, see below"},

    {"short_term", "U", "number (0.5)", "share that a spike releases, in (0, 1]"},
    {"short_term", "tau_depression_ms", "number (800)", "recovery of what was released; 0: at once"},
    {"short_term", "tau_facilitation_ms", "number (0)", "decay of the raised share; 0: none"},

    {"stdp", "rule", "text (pair)", "pair, or 2006: traces of the nearest spike, applied once a second"},
    {"stdp", "plus", "number (0.1)", "a spike of the target after one of the source"},
    {"stdp", "minus", "number (0.12)", "the other order"},
    {"stdp", "tau_plus_ms", "number (20; 2006: 19.5)", "decay of the source's trace"},
    {"stdp", "tau_minus_ms", "number (20; 2006: 19.5)", "decay of the target's trace"},
    {"stdp", "low", "number (0)", "weights stay above, those of the start too"},
    {"stdp", "high", "number (10)", "and below"},
    {"stdp", "nearest", "true or false (false; 2006: true)", "a spike sets its trace to 1 instead of adding 1"},

    {"field", "kappa", "number (0)", "current a uV, of cells that have none of their own"},
    {"field", "lambda_mm", "number (0.2)", "screening length"},
    {"field", "sigma", "number (0.3)", "conductivity, S/m"},
    {"field", "current_na", "number (1)", "of a bare cell of reference_um, at the spike's peak"},
    {"field", "reference_um", "number (20)", "diameter that current_na is of"},
    {"field", "tau_ms", "number (3)", "decay of that current"},
    {"field", "tau_rise_ms", "number (0.5)", "its rise; 0: a jump"},

    {"cells", "positions", "text or list",
     "\"box X Y Z\", \"grid PITCH\" (mm), [[x, y, z], ...] or a CSV file x_mm,y_mm,z_mm; needed"},
    {"cells", "diameter_um", "draw or list (20)", "a number, uniform or normal"},
    {"cells", "g_ratio", "draw or list (1)", "1: bare; likewise"},
    {"cells", "kappa", "number (that of [field])", "current a uV"},
};

/// How a file writes the table.
constexpr std::pair<std::string_view, std::string_view> tables[] = {
    {"network", "`[network]`"},
    {"population", "`[[population]]`"},
    {"projection", "`[[projection]]`"},
    {"short_term", "`short_term = { ... }` of a projection"},
    {"stdp", "`stdp = { ... }` of a projection"},
    {"field", "`[field]`"},
    {"cells", "`field = { ... }` of a population"},
};

}  // namespace

std::span<const NetworkKey> network_keys() { return keys; }

bool is_network_key(std::string_view table, std::string_view key) {
  return std::any_of(std::begin(keys), std::end(keys),
                     [&](const NetworkKey& k) { return k.table == table && k.key == key; });
}

std::string network_key_reference() {
  std::string text;
  for (const auto& [table, written] : tables) {
    text += fmt::format("{}| {} | value (without it) | what it is |\n| --- | --- | --- |\n", text.empty() ? "" : "\n",
                        written);
    for (const NetworkKey& k : keys)
      if (k.table == table) text += fmt::format("| `{}` | {} | {} |\n", k.key, k.value, k.meaning);
  }
  return text;
}

}  // namespace ranvier::neuron
