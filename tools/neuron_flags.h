// Which flags each way of `simulate` takes: what has no effect is refused rather than passed over.
#pragma once
#include "tools/neuron_options.h"

namespace ranvier::cli {

/// The ways that `simulate` and its subcommands go.
enum class Route {
  one,
  population,
  field_population,
  network,
  sweep,
  sweep_network,
  compare,
  stability,
  patterns,
  field,
};

/// Throws UsageError naming the first given flag of the command that its route has no use for, alone or without the
/// flag that it belongs to.
void check_flags(const CLI::App& command, Route route, const NeuronOptions& options);

}  // namespace ranvier::cli
